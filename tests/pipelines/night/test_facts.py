"""The facts of a night are right after several runs, and the next steps are commands that work as they are."""

import shlex
from dataclasses import replace

import pytest

from pipelines.night.facts import exit_code
from pipelines.night.next_steps import command, next_steps
from pipelines.night.notification import summary
from pipelines.night.page import html
from teacher_cache import Cache, status
from tests import fakes
from tests.pipelines.night.nights import PLAIN, PROMPTS, SCRIPT, night_of, write_prompts


class Copier(fakes.FakeTeacher):
    """Draws the same picture for every prompt with the word same, and nearly the same for those with near."""

    def _answer(self, request):
        found = super()._answer(request)
        if "same" in request.prompt:
            return type(found)(found.image_key, fakes.png(7), "png", found.cost_usd, 0.001)
        return found


def copier(**options):
    return Copier(fakes.Spec("fake", "", {name: str(value) for name, value in options.items()}, "fake"))


def test_calls_prices_and_hours_are_those_of_all_runs_and_those_of_the_last_one(cache):
    first = night_of(cache, max_calls=30)
    assert (first.outcome, first.calls, first.pictures + first.reasons.rows) == ("budget", 30, 30)
    assert exit_code(first) == 4
    second = night_of(cache)
    (state,) = status(cache)
    assert (second.calls, second.calls_total) == (len(PROMPTS) - 30, len(PROMPTS)) == (18, state.calls)
    assert second.cost_usd == pytest.approx(18 * 0.04)
    assert second.cost_usd_total == pytest.approx(state.cost_usd) == pytest.approx(48 * 0.04)
    assert [run.calls for run in second.runs] == [30, 18]
    assert [run.stopped for run in second.runs] == ["budget", ""]
    assert sum(run.drawn + run.failed for run in second.runs) == len(PROMPTS)
    assert sum(run.cost_usd for run in second.runs) == pytest.approx(state.cost_usd)
    assert (second.pictures, second.features, second.missing, second.drawn + 30 - first.reasons.rows) == (41, 41, 0, 41)
    assert second.reasons.counts == {"refused": 5, "blank": 1, "transient": 1}
    assert exit_code(second) == 3


def test_a_build_that_ends_with_an_error_has_facts_too(cache):
    night_of(cache, PLAIN)
    found = night_of(cache, error="the server is gone")
    assert (found.outcome, found.error, found.pictures) == ("error", "the server is gone", 41)
    assert found.calls == 8
    assert exit_code(found) == 2
    assert "error" not in [run.stopped for run in found.runs]


def test_an_error_in_the_build_is_in_the_log_of_runs(cache):
    class Broken(fakes.FakeTeacher):
        def draw(self, requests):
            yield from super().draw(request for _, request in zip(range(3), requests, strict=False))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        night_of(cache, PLAIN, teacher=Broken(fakes.Spec("fake", "", {}, "fake")))
    assert [run.stopped for run in night_of(cache, PLAIN, price=0).runs] == ["error", ""]


def test_identical_pictures_are_counted_and_shown_with_their_prompts(cache):
    found = night_of(cache, [*PLAIN, "the same cat", "the same dog", "the same cow"], teacher=copier())
    (group,) = found.look.same
    assert (group.count, group.prompts, found.look.same_rows) == (3, True, 3)
    assert len({one.prompt for one in group.two} & {"the same cat", "the same dog", "the same cow"}) == 2
    assert all(one.picture.startswith("data:image/webp;base64,") for one in group.two)
    assert any("same picture" in step.text for step in found.steps)


def test_samples_of_one_prompt_that_are_identical_are_told_from_prompts(cache):
    found = night_of(cache, [*PLAIN, "the same cat"], teacher=copier(), samples=2)
    assert [(group.count, group.prompts) for group in found.look.same] == [(2, False)]
    assert any("--samples 1" in step.text for step in found.steps)


def test_pictures_that_look_alike_are_shown_as_pairs(cache):
    class Near(fakes.FakeTeacher):
        def _answer(self, request):
            found = super()._answer(request)
            if "near" not in request.prompt:
                return found
            import io

            import numpy as np
            from PIL import Image

            pixels = np.asarray(Image.open(io.BytesIO(fakes.png(7)))).astype(int)
            pixels[0, 0] += 3 + len(request.prompt)
            stream = io.BytesIO()
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "PNG")
            return type(found)(found.image_key, stream.getvalue(), "png", None, 0.001)

    found = night_of(cache, [*PLAIN, "near a cat", "near a horse"], teacher=Near(fakes.Spec("fake", "", {}, "fake")))
    (pair,) = found.look.alike
    assert {one.prompt for one in pair.two} == {"near a cat", "near a horse"}
    assert pair.cosine >= 0.98
    assert found.look.alike_rows == 42


def test_what_was_not_drawn_by_this_run_is_not_compared_again(cache):
    night_of(cache, PLAIN)
    assert night_of(cache, PLAIN).look.alike_note == "this run drew and encoded nothing"


def test_pictures_in_a_provider_s_batches_are_neither_drawn_nor_to_be_paid_again(cache):
    found = replace(night_of(cache, PLAIN, max_calls=30), outcome="batches", in_batches=8)
    assert (exit_code(found), found.missing, found.to_draw) == (5, 10, 2)
    words = ("cache", "build", "rows.jsonl", "--max-calls", "30")
    assert next_steps(found, words)[0].command == "armada cache build rows.jsonl --max-calls 30"
    assert summary(found).startswith("armada: 8 pictures are in batches at the provider")
    assert "In batches at the provider" in html(found)
    raised = next_steps(replace(found, outcome="budget"), words)[0].command
    assert raised == "armada cache build rows.jsonl --max-calls 33"  # 30, two more, and one for chance


def test_the_command_of_a_step_has_neither_the_notified_address_nor_a_password():
    words = ("cache", "build", "a b.txt", "--notify", "https://x.example/T0KEN", "--cache", "s3://me:pw@bucket/c?k=v")
    assert command(words) == "armada cache build 'a b.txt' --cache s3://bucket/c"
    assert command(["cache", "build", "x", "--notify=https://x.example/T"], max_calls="9") == (
        "armada cache build x --max-calls 9"
    )
    assert command(["cache", "build", "x", "--max-calls", "5"], max_calls="9") == "armada cache build x --max-calls 9"


def test_the_steps_are_commands_that_work_as_they_are(cache, tmp_path, run):
    path = write_prompts(tmp_path)
    specs = ("--teacher", "tests.fakes:FakeTeacher?price=0.04", "--encoder", "tests.fakes:FakeEncoder?dimension=64")
    words = ("cache", "build", str(path), *specs, "--cache", str(cache.store), "--budget-usd", "1.20")
    page = tmp_path / "page.html"
    assert run(*words, "--report", page)[0] == 4
    text = page.read_text()
    assert SCRIPT not in text
    found = night_of(Cache(str(cache.store)), words=words, budget_usd=1.2)
    again = shlex.split(found.steps[0].command)
    assert again[0] == "armada"
    assert again[-2:] == ["--budget-usd", "1.96"]  # 1.20 spent, 18 pictures missing, and 5 % more
    assert run(*again[1:], "--report", "none")[0] == 3
    done = night_of(Cache(str(cache.store)), words=words)
    steps = [shlex.split(step.command)[1:] for step in done.steps]
    assert [step[:2] for step in steps] == [
        ["cache", "retry"],
        ["cache", "browse"],
        ["cache", "retry"],
        ["pretrain", "rows.jsonl"],
    ]
    assert steps[2][-4:] == ["--reason", "refused", "--reason", "blank"]
