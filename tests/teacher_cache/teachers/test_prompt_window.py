"""The part of a prompt that a teacher never reads is counted by its own tokenizer."""

import json

import pytest

from teacher_cache import beyond_window, open_teacher
from tests.pipelines.cli import armada
from tests.teacher_cache.tiny_models import save_stable_diffusion

SHORT, FULL, LONG = "ab", "abcdefghijklmn", "abcdefghijklmno"  # 2, 14 and 15 characters, a token each; 16 are read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("diffusers") / "model")


def test_prompts_beyond_the_window_of_a_pipeline_are_counted_by_its_tokenizer(folder):
    teacher = open_teacher(f"diffusers:{folder}")
    found = beyond_window(teacher, [SHORT, FULL, LONG, LONG])
    assert (found.window_tokens, found.prompts, found.counted, found.longest_tokens) == (16, 2, 4, 17)
    assert "2 of 4 prompts are longer than the 16 tokens" in found.in_words()
    assert beyond_window(teacher, [SHORT, FULL]).prompts == 0


def test_nothing_is_said_of_a_teacher_that_does_not_know_its_window():
    assert beyond_window(open_teacher("tests.fakes:FakeTeacher"), [LONG]) is None


def test_a_plan_says_how_many_prompts_the_teacher_does_not_read_to_their_end(folder, tmp_path):
    from teacher_cache import Cache

    Cache(str(tmp_path / "cache"), create=True)
    (tmp_path / "rows.txt").write_text(f"{SHORT}\n{LONG}\n")
    words = ("cache", "plan", tmp_path / "rows.txt", "--teacher", f"diffusers:{folder}")
    run = armada(*words, "--encoder", "tests.fakes:FakeEncoder", "--cache", tmp_path / "cache", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["beyond_window"]["prompts"] == 1
    assert "1 of 2 prompts are longer" in run.stderr


def test_a_cards_prompts_beyond_the_77_tokens_of_clip_are_counted_when_they_are_written(tmp_path):
    (tmp_path / "rows").mkdir()
    for name in ("train", "test"):
        texts = [f"{name} {number} " + "word " * number for number in (1, 60, 90)]
        rows = [{"sentence1": text, "sentence2": "A claim.", "label": 0} for text in texts]
        (tmp_path / "rows" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = armada("tasks", "glue/rte", "--data-files", tmp_path / "rows", "--prompts", tmp_path / "prompts.jsonl")
    assert run.returncode == 0, run.stderr
    assert "glue/rte: 1 of 3 prompts are longer than the 77 tokens that a teacher with CLIP" in run.stderr
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    assert all(json.loads(line)["text"].startswith("A claim. train") for line in lines)
