"""Each command and code block of the pages runs as it is printed, or tests/docs/not_run.txt says why it does not."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.study.config import read_study
from teacher_cache import open_encoder, open_teacher
from tests.docs import stand_ins
from tests.docs.commands import PAGES, ROOT, heading_of, lines_of, read_list, runnable, why_not

ENTRIES = read_list()
LABELS = {"docs/teachers.md": "label"}  # the column of labels in rows.csv; on all other pages it is `category`
STARTS_EMPTY = ("README.md",)  # whose own commands build the cache
NEEDS_A_MODEL = ("diffusers",)  # whose files decide the spec
RUN = [page for page in PAGES if any(not why_not(page, code, ENTRIES) for _, code in runnable(page))]


@pytest.mark.parametrize("page", RUN)
def test_what_the_page_prints_runs_in_its_order(page, folder, tmp_path, monkeypatch, request):
    stand_ins.write_files(LABELS.get(page, "category"))
    stand_ins.install_student(monkeypatch, tmp_path / "minilm")
    if "s3://" in (ROOT / page).read_text("utf-8"):
        request.getfixturevalue("team")
    if page not in STARTS_EMPTY:
        stand_ins.fill_cache()
        for name in ("mine", "yours"):
            shutil.copytree("cache", name)
    names: dict = {"__name__": page}
    for language, code in runnable(page):
        if why_not(page, code, ENTRIES):
            continue
        if language == "bash":
            run(code, page)
        elif language == "python":
            exec(compile(code, page, "exec"), names)
        else:
            assert language == "yaml", f"{page}: no test knows what to do with {heading_of(code)}"
            write_yaml(code)


def run(line, page):
    """Run a command of `armada` in this process."""
    name, *words = shlex.split(line)
    assert name == "armada", f"{page}: run this by a test, or add a line to tests/docs/not_run.txt: {line}"
    words, _, out = " ".join(map(shlex.quote, words)).partition(" '>' ")
    result = CliRunner().invoke(app, stand_ins.filled_in(shlex.split(words)))
    if out:
        Path(out).write_text(result.stdout)
    told = f"{page}: {line}\n{result.stderr[-3000:]}\n{result.exception!r}"
    assert result.exit_code == 0, told


def write_yaml(code):
    """Write a block into the file that its first line names; one without a name is a study, which is read."""
    named = re.match(r"# ([\w.]+\.yaml)", code)
    path = Path(named[1] if named else "study.yaml")
    path.write_text(code)
    if not named:
        assert read_study(path).study.arms


def parsed(words):
    """Parse a command as the program does, without running it."""
    command, name = get_command(app), "armada"
    while True:
        context = command.make_context(name, list(words))
        if not hasattr(command, "resolve_command"):
            return context
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", [page for page in PAGES if "armada" in (ROOT / page).read_text("utf-8")])
def test_every_command_is_one_that_the_program_takes(page, folder):
    stand_ins.write_files(LABELS.get(page, "category"))
    lines = [code for language, code in runnable(page) if language == "bash" and code.startswith("armada ")]
    for line in lines:
        words = stand_ins.filled_in(shlex.split(line)[1:])
        words = words[: words.index(">")] if ">" in words else words
        try:
            parsed(words)
        except BaseException as error:
            pytest.fail(f"{page}: {line}: {error!r} {getattr(error, 'message', '')}")
        given = dict(pairwise(words))
        if (spec := given.get("--teacher")) and not spec.startswith(NEEDS_A_MODEL):
            open_teacher(spec)
        if spec := given.get("--encoder"):
            open_encoder(spec)


def test_every_line_of_the_list_fits_something_and_names_tests_that_exist():
    for entry in ENTRIES:
        assert any(entry.fits(page, heading_of(code)) for page in PAGES for _, code in runnable(page)), entry
        for name in re.findall(r"(?:tests|\.ci)/[\w/.-]*\w", entry.reason):
            assert (ROOT / name).exists(), f"{name}: {entry}"


def test_a_command_is_taken_out_of_its_block_whole_and_without_comments():
    block = "# first\narmada cache build rows.csv \\\n    --cache './my cache'   # a comment\n\narmada tasks > t.txt\n"
    assert lines_of(block) == ["armada cache build rows.csv --cache './my cache'", "armada tasks > t.txt"]


def test_an_unknown_option_and_a_missing_teacher_are_noticed(folder):
    stand_ins.write_files("category")
    with pytest.raises(BaseException, match="--nonsense"):
        parsed(["cache", "build", "rows.csv", "--nonsense", "1"])
    with pytest.raises(AssertionError, match="run this by a test"):
        run("make demo", "page.md")
