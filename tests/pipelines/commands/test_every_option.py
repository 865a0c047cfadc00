"""Every option of every command: a typo in it, a value of another type, and a path that is not there."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from distill.tasks import splits
from pipelines.cli import app, main
from teacher_cache import Cache
from tests.distill.tiny import save_student

FAKES = ("--teacher", "tests.fakes:FakeTeacher", "--encoder", "tests.fakes:FakeEncoder")


def commands(group, *words):
    """Yield the words and the command of every command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *words, name)
        else:
            yield (*words, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))
OPTIONS = [
    (words, flag, option)
    for words, command in COMMANDS.items()
    for option in command.params
    if option.param_type_name == "option"
    for flag in option.opts
]


def is_number(option):
    kind = getattr(option, "type_descriptor", None) or option.type  # the one of click in older versions of typer
    return re.search(r"class '(int|float)'|INT|FLOAT", str(kind)) is not None


def mistyped(flag, known):
    """Return the flag with its last two letters swapped, or doubled where that is no typo."""
    typo = flag[:-2] + flag[-1] + flag[-2] if len(flag) > 5 else flag + flag[-1]
    return typo if typo != flag and typo not in known else flag + "x"


def run(*words):
    return CliRunner().invoke(app, list(words), prog_name="armada")


def one_line(result):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_typo_in_any_option_is_one_line_that_names_the_nearest_option(words):
    flags = [(flag, option.is_flag) for known, flag, option in OPTIONS if known == words]
    assert flags or words == ("demo",)
    for flag, is_switch in flags:
        typo = mistyped(flag, [flag for flag, _ in flags])
        line = one_line(run(*words, typo, *([] if is_switch else ["1"])))
        assert f"unknown option {typo}; did you mean --" in line, line
        assert line.endswith(f"(see armada {' '.join(words)} --help)")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_value_that_is_no_number_is_one_line_that_names_the_option(words):
    for known, flag, option in OPTIONS:
        if known == words and is_number(option):
            assert flag in one_line(run(*words, flag, "many"))


def test_some_options_are_numbers():
    assert sum(is_number(option) for _, _, option in OPTIONS) > 50


def test_an_option_without_its_value_and_a_missing_argument_are_one_line():
    assert "'--out' requires an argument" in one_line(run("demo", "--out"))
    assert "missing argument" in one_line(run("cache", "status"))
    assert "missing option '--cache'" in one_line(run("cache", "build", "rows.csv"))
    assert "unexpected extra argument" in one_line(run("demo", "quick"))


def test_a_group_without_a_command_prints_its_help_and_no_error():
    result = run("cache")
    assert result.exit_code == 2
    assert "armada cache" in result.output
    assert "error" not in result.output


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with rows, a student and a cache, in which no rows of a card can be read."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text,label\n" + "".join(f"a plane {i},{i % 2}\n" for i in range(8)))
    save_student(Path("student"))
    Cache("cache", create=True)

    def read(*_, **__):
        pytest.fail("rows were read before the paths were checked")

    monkeypatch.setattr(splits, "source_rows", read)


CARD, TRAIN = ("--task", "demo/sentiment"), ("--student", "student", "--out", "run")
PLAIN = (*TRAIN, "--control", "undistilled")
ABSENT = [
    ("train", *CARD, *PLAIN, "--data-files", "nope.csv"),
    ("train", *CARD, *PLAIN, "--config", "nope.yaml"),
    ("train", *CARD, *TRAIN, "--cache", "nope"),
    ("train", *CARD, *TRAIN, "--features", "nope.npy"),
    ("train", *CARD, *TRAIN, "--features", "rows.npy", "--feature-keys", "nope.txt"),
    ("train", "--task", "nope.yaml", *PLAIN),
    ("train", "nope.csv", *PLAIN),
    ("train", *CARD, "nope.csv", *PLAIN),
    ("train", *CARD, *PLAIN, "--class-weights", "nope.json"),
    ("train", *CARD, "--student", "student", "--control", "undistilled", "--out", "rows.csv/nope"),
    ("pretrain", "demo/sentiment", *TRAIN, "--cache", "nope"),
    ("pretrain", "demo/sentiment", *TRAIN, "--features", "nope.parquet"),
    ("pretrain", "nope.csv", *TRAIN, "--cache", "cache"),
    ("pilot", *CARD, *FAKES, "--cache", "cache", "--data-files", "nope.csv"),
    ("pilot", *CARD, *FAKES, "--cache", "rows.csv"),
    ("pilot", *CARD, *FAKES, "--cache", "cache", "--out", "rows.csv/nope"),
    ("pilot", "nope.csv", *FAKES, "--cache", "cache"),
    ("study", "nope.yaml", "--out", "out"),
    ("report", "nope"),
    ("report", "cache", "--pilot", "nope"),
    ("tasks", "demo/sentiment", "--data-files", "nope.csv"),
    ("tasks", "demo/sentiment", "--prompts", "rows.csv/nope.jsonl"),
    ("tasks", "new", "nope.csv"),
    ("cache", "build", "nope.csv", *FAKES, "--cache", "cache"),
    ("cache", "build", "nope.csv", *CARD, *FAKES, "--cache", "cache"),
    ("cache", "build", "rows.csv", "--task", "nope.yaml", *FAKES, "--cache", "cache"),
    ("cache", "build", "demo/sentiment", *FAKES, "--cache", "rows.csv"),
    ("cache", "plan", "demo/sentiment", *FAKES, "--cache", "rows.csv"),
    *(("cache", name, "nope") for name in ("status", "verify", "compact", "retry", "prompts", "browse")),
    ("cache", "export", "nope", "out", "--to", "parquet"),
    ("cache", "merge", "nope", "other"),
    ("cache", "push", "nope", "other"),
    ("cache", "pull", "nope", "other"),
    ("cache", "sync", "nope", "other"),
    ("cache", "pull", "cache", "other", "--task", "nope.csv"),
    ("demo", "--quick", "--out", "rows.csv"),
    ("doctor", "nope"),
]


@pytest.mark.parametrize("words", ABSENT, ids=" ".join)
def test_a_path_that_is_not_there_is_named_before_any_row_is_read(here, monkeypatch, capsys, words):
    Path("rows.npy").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["armada", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 2, shown.err
    last = shown.err.splitlines()[-1]
    assert last.startswith("error: "), shown.err
    assert "nope" in last or "rows.csv" in last
    assert not Path("run").exists()
