"""A retry requests failed rows again, from the teacher that the cache records and from no other."""

import json
from pathlib import Path

import pytest

from teacher_cache import ArmadaError, Cache, build, retry, source_of_teacher, status
from tests import fakes
from tests.teacher_cache.maintenance.caches import adapters


def test_retry_requests_the_failures_of_the_chosen_reasons_from_the_recorded_teacher(cache, monkeypatch):
    prompts = ["fine", "[transient] a", "[transient] b", "[refused] c"]
    build(cache, prompts, *adapters())
    assert sum(report.calls for report in retry(cache, ["transient"])) == 2
    (state,) = status(cache)
    assert state.failures == {"transient": 2, "refused": 1}
    monkeypatch.setattr(
        fakes.FakeTeacher, "_answer", lambda self, r: fakes.Picture(r.image_key, fakes.png(r.seed), "png", None)
    )
    (report,) = retry(cache, ["transient", "refused"])
    assert (report.drawn, report.encoded) == (3, 3)
    (state,) = status(cache)
    assert (state.pictures, state.failures) == (4, {})
    assert retry(cache, ["transient", "refused"]) == []


def test_retry_refuses_an_unknown_reason_and_another_teacher(cache):
    build(cache, ["[transient] a"], *adapters())
    with pytest.raises(ArmadaError, match=r"--reason: expected one of transient, .* found 'bored'"):
        retry(cache, ["bored"])
    path = Path(str(cache.store)) / f"images/{source_of_teacher(adapters()[0]).name}/teacher.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "text": "tests.fakes:FakeTeacher?style=bold"}))
    with pytest.raises(ArmadaError, match="is now another teacher than fake-"):
        retry(Cache(str(cache.store)), ["transient"])
