"""The real pictogram teacher, with the packages that the demo installs."""

import io

import pytest
from PIL import Image

from teacher_cache import open_teacher
from teacher_cache.teachers import Request

PROMPTS = ["my dog chased a cat", "the flight to Paris was late", "happy birthday with cake"]


@pytest.fixture(scope="module")
def teacher():
    return open_teacher("pictogram")


def draw(teacher, prompts, sample=0):
    requests = [Request(f"k{i}", prompt, sample, i) for i, prompt in enumerate(prompts)]
    return [answer.data for answer in teacher.draw(requests)]


def test_a_picture_depends_on_its_prompt_and_not_on_other_prompts(teacher):
    together = draw(teacher, PROMPTS)
    assert draw(teacher, PROMPTS[::-1])[::-1] == together
    assert [draw(teacher, [prompt])[0] for prompt in PROMPTS] == together
    assert len(set(together)) == 3


def test_a_picture_shows_what_the_prompt_describes(teacher):
    embed, names = teacher._retrieval
    scores = names @ embed(["happy birthday with cake"])[0]
    nearest = [path.stem for path in teacher._nearest(scores, 0)]
    assert "1F382" in nearest  # birthday cake


def test_samples_differ(teacher):
    assert draw(teacher, PROMPTS[:1], 0) != draw(teacher, PROMPTS[:1], 1)


def test_size_is_part_of_the_spec_and_of_the_picture(teacher):
    small = open_teacher("pictogram?size=96")
    assert small.spec != teacher.spec
    assert Image.open(io.BytesIO(draw(small, PROMPTS[:1])[0])).size == (96, 96)
