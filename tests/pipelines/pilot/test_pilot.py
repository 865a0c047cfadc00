"""`armada pilot` draws what it is told to, pays for nothing twice, and says on one page what it found."""

import json

import numpy as np
import pytest

from distill import find_task, load_splits, new_card
from pipelines.pilot.page import html
from pipelines.pilot.pilot import Pilot, PilotOptions, run_pilot
from teacher_cache import ArmadaError, Cache, build
from tests import fakes
from tests.pipelines.cli import FAKES, armada


class TellingEncoder(fakes.FakeEncoder):
    """Adds to the picture's feature whether the prompt has the word red: what a picture would show."""

    def encode(self, pictures, prompts):
        features = super().encode(pictures, prompts)
        features[:, 0] = [1.0 + ("red" in prompt) + 0.3 * features[row, 1] for row, prompt in enumerate(prompts)]
        return features


def telling():
    encoder = TellingEncoder(fakes.Spec("fake-encoder", "", {}, "fake"))
    encoder.spec = {**encoder.spec, "kind": "telling"}
    return encoder


def write_rows(folder, count=260, name="rows.jsonl"):
    """Write rows whose label says whether the thing in the text is red, and return their path."""
    reds = np.random.default_rng(0).integers(0, 2, count)
    rows = [
        {"text": f"{'a red' if red else 'a blue'} thing {n}", "label": "yn"[int(red)]} for n, red in enumerate(reds)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def task(tmp_path):
    card = new_card(str(write_rows(tmp_path)), "text", "label").card
    return card, load_splits(card)


def pilot_of(task, cache, teacher, encoder, text=None, **options):
    return run_pilot(*task, cache, teacher, encoder, text, PilotOptions(**{"prompts": 150, **options}))


def test_what_pictures_show_is_worth_it_and_noise_is_not(task, tmp_path):
    caches = [Cache(str(tmp_path / name), create=True) for name in ("a", "b")]
    found = pilot_of(task, caches[0], fakes.teacher(), telling(), fakes.encoder())
    assert found.judgement.worth == "worth it"
    assert found.judgement.pictures_over_text.low > 0
    assert found.judgement.rows == 100
    assert pilot_of(task, caches[1], fakes.teacher(), fakes.encoder()).judgement.worth != "worth it"


def test_a_larger_pilot_and_the_whole_build_pay_for_nothing_twice(task, cache):
    teacher = fakes.teacher()
    assert pilot_of(task, cache, teacher, telling(), prompts=120).price.calls == 120
    assert pilot_of(task, cache, teacher, telling(), fakes.encoder(), prompts=150).price.calls == 30
    again = pilot_of(task, cache, teacher, telling(), fakes.encoder(), prompts=150)
    prompts = task[1].train.prompts
    assert (again.price.calls, again.price.whole_calls) == (0, len(prompts) - 150)
    assert build(cache, prompts, teacher, telling()).calls == len(prompts) - 150
    assert len(set(teacher.calls)) == len(teacher.calls) == len(prompts)


def test_price_and_refusals_are_those_of_the_pilots_own_prompts(task, cache):
    card, splits = task
    refusing = [f"[refused] {p}" if n % 10 == 0 else p for n, p in enumerate(splits.train.prompts)]
    object.__setattr__(splits.train, "prompts", refusing)
    found = pilot_of((card, splits), cache, fakes.FakeTeacher(fakes.Spec("fake", "", {}, "fake"), 0.04), telling())
    price = found.price
    assert price.failures == {"refused": 15}
    assert price.refused_low < price.refused == 0.1 < price.refused_high
    assert (price.usd_per_picture, price.whole_usd) == (0.04, pytest.approx(0.04 * price.whole_calls))
    assert price.whole_seconds > 0


def test_a_budget_stops_a_pilot_which_says_what_it_has(task, cache):
    found = pilot_of(task, cache, fakes.teacher(), telling(), fakes.encoder(), max_calls=40)
    assert (found.stopped, found.price.calls, found.judgement) == ("budget", 40, None)
    assert found.note == "40 labelled rows have a picture; a judgement needs 100"
    assert "The pilot stopped early: budget" in html(found)


def test_tasks_that_no_linear_model_predicts_or_with_few_rows_are_refused_before_a_call(tmp_path, cache):
    teacher = fakes.teacher()
    words = find_task("demo/word-problems")
    few = new_card(str(write_rows(tmp_path, 60)), "text", "label").card
    some = load_splits(few)
    for card, message in ((words, "is generation"), (few, "at least 100 labelled training rows")):
        with pytest.raises(ArmadaError, match=message):
            pilot_of((card, some), cache, teacher, fakes.encoder())
    assert teacher.calls == []


def test_the_command_writes_a_page_and_json_and_a_second_look_draws_nothing(tmp_path):
    rows = write_rows(tmp_path, name="red <things>.jsonl")
    words = ["pilot", rows, *FAKES, "--cache", tmp_path / "cache", "--prompts", 120, "--out", tmp_path / "p"]
    first = armada(*words, "--json", "--text-encoder", "none")
    assert first.returncode == 0, first.stderr
    facts = json.loads(first.stdout)
    assert (facts["price"]["calls"], facts["judgement"]["rows"], facts["text_encoder"]) == (120, 100, None)
    assert json.loads((tmp_path / "p" / "pilot.json").read_text())["judgement"] == facts["judgement"]
    page = (tmp_path / "p" / "pilot.html").read_text()
    assert facts["judgement"]["sentence"].split(":")[0] in page
    assert "<things>" not in page
    again = armada(*words, "--text-encoder", "none")
    assert "calls                        0" in again.stdout, again.stdout


def test_a_pilot_can_be_shown_without_a_judgement(task, cache):
    found = pilot_of(task, cache, fakes.teacher(), telling(), max_calls=0)
    assert isinstance(found, Pilot)
    assert "0 labelled rows have a picture" in html(found)
