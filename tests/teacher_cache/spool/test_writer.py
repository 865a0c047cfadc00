"""Group commits and claims ahead: few transactions, nothing granted before it is durable, nothing kept that was not
sent.
"""

import threading
import time

import pytest

from teacher_cache.errors import CacheError
from teacher_cache.files.disk import DiskFullError
from teacher_cache.keys import sha256
from teacher_cache.spool.ahead import ClaimsAhead
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool
from teacher_cache.spool.writer import Writer
from teacher_cache.teachers import Failure, Picture, Request

TEACHER = "t"


class Sending:
    def __init__(self, key):
        self.wanted = Wanted(Request(key, f"prompt {key}", 0, 1), "p" * 64)


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path) as opened:
        yield opened


@pytest.fixture
def writes(spool, monkeypatch):
    """The transactions of the spool, as (claims, answers); each waits while `writes.held` is locked."""
    write, writes = spool._write, type("Writes", (list,), {})()
    writes.held = threading.Lock()

    def noted(claims, answers, costs):
        with writes.held:
            result = write(claims, answers, costs)
        writes.append((len(claims.wanted) if claims else 0, len(answers)))
        return result

    monkeypatch.setattr(spool, "_write", noted)
    return writes


def writer_of(spool, stored=lambda answers: None, budget=Budget()):
    return Writer(spool, TEACHER, 0, budget=lambda: budget, stored=stored)


def answered(key):
    return Picture(key, key.encode(), "png"), sha256(key.encode())


def wanted(*keys):
    return [Sending(key).wanted for key in keys]


def test_what_waits_while_the_disk_is_busy_is_written_in_one_transaction(spool, writes):
    stored = []
    with writer_of(spool, stored=stored.extend) as writer:
        keys = [f"k{i}" for i in range(20)]
        assert writer.claim(wanted(*keys)).result() == ["granted"] * 20
        with writes.held:
            writer.note_cost(Failure("k0", "transient", "", 0.5))
            while writer._waiting:
                time.sleep(0.001)
            for key in keys:
                writer.store([answered(key)])
            later = [writer.claim(wanted(f"l{i}")) for i in range(20)]
        assert [future.result() for future in later] == [["granted"]] * 20
        assert spool.count(TEACHER, "drawn") == 20  # durable before a later claim is granted
    assert writes == [(20, 0), (0, 0), (20, 20)]
    assert [answer.image_key for answer, _ in stored] == keys
    assert spool.spent(TEACHER) == (40, 0.5)


def test_answers_that_could_not_be_stored_are_stored_at_the_end_and_the_claims_of_that_time_fail(spool, monkeypatch):
    write, tries = spool._write, []

    def full_once(claims, answers, costs):
        tries.append(len(answers))
        if len(tries) == 2:
            raise DiskFullError("no room left")
        return write(claims, answers, costs)

    monkeypatch.setattr(spool, "_write", full_once)
    with writer_of(spool) as writer:
        writer.claim(wanted("a")).result()
        with writer._changed:  # both at once
            writer.store([answered("a")])
            claim = writer.claim(wanted("b"))
        with pytest.raises(CacheError, match="no room left"):
            claim.result()
    assert isinstance(writer.error, DiskFullError)
    assert spool.count(TEACHER, "drawn") == 1


def ahead(writer, keys, most):
    pending = iter([Sending(key) for key in keys])
    return ClaimsAhead(writer, lambda: next(pending, None), most)


def test_a_teacher_that_takes_requests_faster_than_the_disk_finds_them_claimed_and_what_it_leaves_is_given_back(
    spool, writes
):
    keys = [f"k{i}" for i in range(100)]
    with writer_of(spool, budget=Budget(price_usd=0.25)) as writer:
        claims = ahead(writer, keys, 16)
        taken = []
        for _ in range(60):
            writer.seconds = 10.0  # a slow disk
            item, claim = claims.take(1)
            assert claim == "granted"
            taken.append(item.wanted.request.image_key)
    assert taken == keys[:60]
    assert len(writes) < 20
    unsent = claims.give_up()
    assert unsent == keys[60 : 60 + len(unsent)]
    assert 0 < len(unsent) <= 17
    assert spool.spent(TEACHER)[0] == 60 + len(unsent)
    spool.give_back(TEACHER, unsent)
    assert spool.spent(TEACHER) == (60, 15.0)
    assert spool.spent_by_this_build() == (60, 15.0)
    assert spool.count(TEACHER, "claimed") == 60


def test_for_a_slow_teacher_nothing_is_claimed_ahead_but_all_that_it_has_room_for_at_once(spool, writes):
    with writer_of(spool) as writer:
        claims = ahead(writer, [f"k{i}" for i in range(20)], 16)
        for room in range(8, 0, -1):
            claims._left_at = 0.0  # the last request was taken long ago
            claims.take(room)
        assert writes == [(8, 0)]
        for _ in range(3):
            claims._left_at = 0.0
            claims.take(1)
    assert writes == [(8, 0), (1, 0), (1, 0), (1, 0)]
    assert claims.give_up() == []


def test_a_claim_that_the_budget_refused_ahead_is_asked_for_again_when_it_is_needed(spool):
    with writer_of(spool, budget=Budget(max_usd=1.0, price_usd=0.5)) as writer:
        claims = ahead(writer, ["a", "b", "c", "d"], 16)
        assert [claims.take(4)[1] for _ in range(2)] == ["granted", "granted"]
        writer.store([(Failure("a", "refused", "no", 0.0), "")])  # it cost nothing: there is money for one more
        assert claims.take(1)[1] == "granted"
        assert claims.take(1)[1] == "spent"
    assert claims.give_up() == []
