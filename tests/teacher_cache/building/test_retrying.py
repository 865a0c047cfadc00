"""A retry requests failed rows again, each once, from the teacher that the user names and from no other."""

import json
from pathlib import Path

import pytest

from teacher_cache import ArmadaError, Cache, build, open_encoder, retry, source_of_teacher, status
from tests import fakes
from tests.teacher_cache.maintenance.caches import adapters


def test_retry_requests_the_failures_of_the_chosen_reasons(cache, monkeypatch):
    prompts = ["fine", "[transient] a", "[transient] b", "[refused] c"]
    build(cache, prompts, *adapters())
    assert retry(cache, *adapters()).calls == 2
    (state,) = status(cache)
    assert state.failures == {"transient": 2, "refused": 1}
    monkeypatch.setattr(
        fakes.FakeTeacher, "_answer", lambda self, r: fakes.Picture(r.image_key, fakes.png(r.seed), "png", None)
    )
    report = retry(cache, *adapters(), ["transient", "refused"])
    assert (report.drawn, report.encoded) == (3, 3)
    (state,) = status(cache)
    assert (state.pictures, state.failures) == (4, {})
    assert retry(cache, *adapters(), ["transient", "refused"]) is None


def test_retry_requests_each_row_once_however_many_encoders_the_cache_has_at_todays_price(cache):
    prompts = ["fine", "[transient] a"]
    for dimension in (4, 8):
        build(cache, prompts, adapters()[0], open_encoder(f"tests.fakes:FakeEncoder?dimension={dimension}"))
    report = retry(cache, *adapters("tests.fakes:FakeTeacher?price=0.25"))
    assert (report.calls, report.cost_usd) == (1, 0.25)


def test_retry_refuses_an_unknown_reason_and_a_teacher_whose_rows_did_not_fail(cache):
    build(cache, ["[transient] a"], *adapters())
    with pytest.raises(ArmadaError, match=r"--reason: expected one of transient, .* found 'bored'"):
        retry(cache, *adapters(), ["bored"])
    with pytest.raises(ArmadaError, match=r"no picture of fake-.* failed for these reasons, but pictures of fake-"):
        retry(cache, *adapters("tests.fakes:FakeTeacher?style=bold"))


def test_what_the_caches_file_says_of_the_teacher_changes_nothing(cache):
    build(cache, ["[transient] a"], *adapters())
    path = Path(str(cache.store)) / f"images/{source_of_teacher(adapters()[0]).name}/teacher.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "text": "no.such:module", "price_usd": 99}))
    assert retry(Cache(str(cache.store)), *adapters()).cost_usd == 0
