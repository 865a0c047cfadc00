"""The first hour of a new user: a teacher in a file of one's own, and a colleague's cache that was copied."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from teacher_cache import ArmadaError, Cache
from tests.distill.tiny import save_student
from tests.documents import python_block
from tests.pipelines.cli import FAKES, environment
from tests.pipelines.run.test_mending import armada

ROWS = [(f"a good plane {i}", ["bad", "fine"][i % 2]) for i in range(40)]
OTHER = ("--teacher", "tests.fakes:FakeTeacher?style=b c", "--encoder", "tests.fakes:FakeEncoder")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))


@pytest.fixture
def copied():
    """Return a cache that was built elsewhere and copied here, and the words that train on it."""
    armada("cache", "build", "rows.csv", *FAKES, "--cache", "theirs")
    shutil.copytree("theirs", "mine")
    shutil.rmtree("theirs")
    student = save_student(Path("student"))
    words = ("train", "rows.csv", "--student", student, "--cache", "mine", "--batch-size", 64, "--max-steps", 1)
    return "mine", words


def console_script(*words):
    """Run the console script, which does not have the working folder on Python's path, in that folder."""
    Path("bin").mkdir(exist_ok=True)
    script = Path("bin/armada")
    script.write_text("import sys\nfrom pipelines.cli import main\nsys.exit(main())\n")
    line = [sys.executable, str(script.absolute()), *map(str, words)]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=200)


def test_the_teacher_of_the_documents_runs_from_a_file_in_the_working_folder():
    Path("teacher.py").write_text(python_block("class Captions"))
    words = ("cache", "build", "rows.csv", "--encoder", "tests.fakes:FakeEncoder", "--cache", "c", "--json")
    first = console_script(*words, "--teacher", "./teacher.py:Captions?size=32")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["drawn"] == 40
    again = console_script(*words, "--teacher", "teacher:Captions?size=32")
    assert json.loads(again.stdout)["calls"] == 0, again.stderr


def test_the_status_of_a_copied_cache_says_the_words_that_repeat_it(copied):
    cache, _ = copied
    (line,) = [line for line in armada("cache", "status", cache).stdout.splitlines() if "to repeat" in line]
    said = shlex.split(line.replace("to repeat", ""))
    assert said == list(FAKES)
    planned = armada("cache", "plan", "rows.csv", *said, "--cache", cache, "--json")
    assert json.loads(planned.stdout)["calls"] == 0
    (teacher,) = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"]
    assert shlex.split(teacher["encoders"][0]["options"]) == list(FAKES)


def test_a_cache_with_one_teacher_and_encoder_trains_without_naming_them_and_says_so(copied):
    cache, words = copied
    run = armada(*words, "--out", "run")
    assert run.exit_code == 0, run.stderr
    assert "features: --teacher tests.fakes:FakeTeacher --encoder tests.fakes:FakeEncoder, since none" in run.stderr
    armada("cache", "build", "rows.csv", *OTHER, "--cache", cache)
    with pytest.raises(ArmadaError, match=r"choose one with --teacher .* or --teacher ") as caught:
        armada(*words, "--out", "other")
    assert "--teacher 'tests.fakes:FakeTeacher?style=b c'" in str(caught.value)
    for name in (Cache(cache).teachers()[0].name, OTHER[1]):
        named = armada(*words, "--teacher", name, "--out", f"run-{name[:8]}")
        assert named.exit_code == 0, named.stderr
        assert "features: " in named.stderr  # the encoder was not named


def test_a_build_opens_no_teacher_that_only_the_cache_names_and_says_how_to_name_it(copied):
    cache, words = copied
    for command in ("build", "plan"):
        with pytest.raises(ArmadaError, match=f"--teacher SPEC is missing; {cache} has: {' '.join(FAKES)}"):
            armada("cache", command, "rows.csv", "--cache", cache)
        with pytest.raises(
            ArmadaError, match="--encoder SPEC is missing, for example --teacher pictogram --encoder eff"
        ):
            armada("cache", command, "rows.csv", *FAKES[:2], "--cache", "none")
    assert not Path("none").exists()
    Path("evil.py").write_text("open('imported', 'w')\nfrom tests.fakes import FakeTeacher as Teacher\n")
    for record in Path(cache).rglob("teacher.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"text": "./evil.py:Teacher"}))
    run = armada(*words, "--out", "run")
    assert run.exit_code == 0, run.stderr
    assert "./evil.py:Teacher" in run.stderr
    assert not Path("imported").exists()


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_the_prompts_of_a_cache_can_be_listed_and_built_from_again(copied, suffix):
    cache, _ = copied
    odd = [' "quoted", and\nbroken', "[refused] a", "é \x1b[2J"]
    Path("odd.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in odd))
    armada("cache", "build", "odd.jsonl", *FAKES, "--samples", 2, "--cache", cache)
    out = f"prompts.{suffix}"
    facts = json.loads(armada("cache", "prompts", cache, "--out", out, "--json").stdout)
    assert facts == {"prompts": 43, "samples": 44, "failed": 2, "out": out}
    planned = json.loads(armada("cache", "plan", out, *FAKES, "--cache", cache, "--json").stdout)
    assert (planned["rows"], planned["calls"], planned["failed"]) == (43, 0, {"refused": 1})
    with pytest.raises(ArmadaError, match=f"{out} is there already; replace it with --force"):
        armada("cache", "prompts", cache, "--out", out)
    assert armada("cache", "prompts", cache, "--out", out, "--force").exit_code == 0


def test_the_prompts_of_a_strangers_cache_cannot_move_the_cursor_of_a_terminal(copied):
    cache, _ = copied
    Path("odd.txt").write_text("a \x1b[2J cat\n")
    armada("cache", "build", "odd.txt", *FAKES, "--cache", cache)
    listed = armada("cache", "prompts", cache)
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert "\x1b" not in listed.stdout
    assert {row["text"] for row in rows} == {"a \x1b[2J cat", *(text for text, _ in ROWS)}
    assert all(set(row) == {"text", "samples", "failed", "teacher"} for row in rows)
    with pytest.raises(ArmadaError, match=r"--out: expected a file ending in .jsonl, .csv, .parquet, found x.txt"):
        armada("cache", "prompts", cache, "--out", "x.txt")
    assert not os.path.exists("x.txt")
