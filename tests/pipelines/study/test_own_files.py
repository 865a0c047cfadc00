"""A study of every kind of one's own file: a card by `armada tasks new`, then two encoders as arms."""

import json
from pathlib import Path

import pytest
import yaml

from tests.distill.tiny import save_student
from tests.pipelines.commands.test_own_rows import KINDS, text
from tests.pipelines.run.test_mending import armada

ARMS = {
    "undistilled": {"control": "undistilled"},
    "small": {"encoder": "tests.fakes:FakeEncoder?dimension=4"},
    "large": {"encoder": "tests.fakes:FakeEncoder?dimension=8"},
}


def alike():
    rows = [{"a": text(i), "b": text(-i), "score": i % 6 / 5} for i in range(120)]
    Path("alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "alike.jsonl", "a,b", "score", "--type", "similarity"


@pytest.mark.parametrize("kind", [alike, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)])
def test_a_file_of_any_kind_is_studied_with_two_encoders_as_arms(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, texts, label, *more = kind()
    words = more if kind is alike else []
    armada("tasks", "new", rows, "--text-column", texts, "--label-column", label, *words, "--out", "own.yaml")
    study = {
        "name": "own",
        "question": "Which encoder?",
        "task": "own.yaml",
        "student": str(save_student(tmp_path / "student")),
        "teacher": "tests.fakes:FakeTeacher",
        "seeds": [0],
        "settings": {"epochs": 1, "batch_size": 128, "max_length": 8, "precision": "fp32"},
        "arms": ARMS,
        "primary": {"arm": "small", "against": ["undistilled", "large"], "margin": 0.01},
    }
    Path("study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    run = armada("study", "study.yaml", "--out", "out", "--json")
    assert run.exit_code == 0, run.stderr
    found = json.loads(Path("out/results.json").read_text())
    assert [one["arm"] for one in found["measured"]] == list(ARMS)
    records = [json.loads(path.read_text()) for path in sorted(Path("out/runs/finetune").glob("*/run.json"))]
    widths = {one["features"] and one["features"]["dimension"] for one in records}
    assert widths == {None, 4, 8}
    assert all(one["metrics"]["test"] for one in records)
    page = Path("out/report.html").read_text()
    assert all(f"FakeEncoder?dimension={width}" in page for width in (4, 8))
