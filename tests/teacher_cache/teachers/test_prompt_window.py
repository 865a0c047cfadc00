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
