"""What `cache build` and `cache plan` take as prompts, and the plan before the first build."""

import json
import re
from pathlib import Path

import pytest

from teacher_cache import ArmadaError
from tests.pipelines.run.test_mending import ENCODER, TEACHER, armada


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("glue/rte", "--task", "glue/rte"), "--task: expected rows of the card glue/rte before it, found the card"),
        (("rows.csv", "--task", "glue/rte", "--text-column", "text"), "leave out one of the two"),
        (("glue/rte", "--text-column", "text"), "the card glue/rte has its own columns"),
        (("rows.csv", "--task", "glue/nothing"), "no task 'glue/nothing'"),
        (("gone.csv", "--task", "glue/rte"), "gone.csv"),
        (("folder",), "found a folder; name its card by --task"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "build"])
def test_prompts_that_contradict_their_options_are_refused_before_a_cache_is_made(
    tmp_path, monkeypatch, command, words, message
):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("rows.csv").write_text("text\na\n")
    with pytest.raises(ArmadaError, match=re.escape(message)):
        armada("cache", command, *words, "--teacher", TEACHER, "--encoder", ENCODER, "--cache", "c")
    assert not Path("c").exists()


def test_a_plan_before_the_first_build_counts_everything_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("a\nb\nb\n")
    for cache in ("new", "new/deeper", f"memory://{tmp_path.name}"):
        priced = "tests.fakes:FakeTeacher?price=0.5"
        sources = ("--teacher", priced, "--encoder", ENCODER, "--cache", cache, "--samples", 2)
        planned = json.loads(armada("cache", "plan", "p.txt", *sources, "--json").stdout)
        assert planned == planned | {
            "rows": 3,
            "unique_prompts": 2,
            "pictures_at_hand": 0,
            "features_at_hand": 0,
            "failed": {},
            "calls": 4,
            "cost_usd": 2.0,
            "seconds": None,
        }
    assert [path.name for path in tmp_path.rglob("*")] == ["p.txt"]


def test_a_plan_of_a_cache_that_is_damaged_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("a\n")
    Path("c").mkdir()
    Path("c/cache.json").write_text("{")
    with pytest.raises(ArmadaError, match=r"c/cache\.json: no readable JSON"):
        armada("cache", "plan", "p.txt", "--teacher", TEACHER, "--encoder", ENCODER, "--cache", "c")
