"""The spool: only a running build's claim counts, the ledger loses no call, and an answer is stored completely."""

import pytest

from teacher_cache.files.disk import DiskFullError
from teacher_cache.format.commits import Spent
from teacher_cache.keys import sha256
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool, StoredError
from teacher_cache.teachers import Failure, Picture, Request

FREE = Budget()


def wanted(key, attempts=0):
    return Wanted(Request(key, f"prompt {key}", 0, 1), "p" * 64, attempts)


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path) as opened:
        yield opened


def test_a_picture_that_a_running_build_has_claimed_is_not_granted_to_another(spool, tmp_path):
    assert spool.claim("t", wanted("a"), FREE, 0) == "granted"
    with Spool(tmp_path) as other:
        assert other.claim("t", wanted("a"), FREE, 0) == "held"
        assert other.claim("t", wanted("b"), FREE, 0) == "granted"


def test_the_claim_of_a_dead_build_is_taken_over_and_counted(tmp_path):
    dead = Spool(tmp_path)
    with dead:
        dead.claim("t", wanted("a"), FREE, 0)
        dead.locks._own.release()  # what the kernel does to a killed process
        with Spool(tmp_path) as spool:
            assert spool.claim("t", wanted("a"), FREE, 0) == "granted"
            assert spool.spent("t") == (2, 0)
            spool.record([Picture("a", b"png", "png")])
            assert spool.waiting("t", "drawn", 9)[0].attempts == 2


def test_an_answered_row_is_done_for_every_build(spool, tmp_path):
    spool.claim("t", wanted("a"), FREE, 0)
    spool.record([Picture("a", b"bytes", "png", 0.04, 1.5)])
    with Spool(tmp_path) as other:
        assert other.claim("t", wanted("a"), FREE, 0) == "done"
    (row,) = spool.waiting("t", "drawn", 9)
    assert (row.sha256, row.cost_usd, row.seconds, row.suffix) == (sha256(b"bytes"), 0.04, 1.5, "png")
    assert list(spool.pictures(["a"])) == [b"bytes"]


def test_a_build_that_planned_before_the_seal_does_not_request_the_picture_again(spool, tmp_path):
    with Spool(tmp_path) as other:
        planned = other.last_seal()  # and its plan still wants "a"
        spool.claim("t", wanted("a"), FREE, 0)
        spool.record([Picture("a", b"bytes", "png")])
        spool.mark_sealed(["a"])
        assert other.claim("t", wanted("a"), FREE, planned) == "done"
        assert other.claim("t", wanted("a"), FREE, other.last_seal()) == "granted"  # planned later: the shard was lost


def test_sealing_deletes_no_call_from_the_ledger(spool):
    spool.claim("t", wanted("a"), Budget(price_usd=0.05), 0)
    spool.record([Failure("a", "refused", "no", 0.02)])
    spool.mark_sealed(["a"])
    assert spool.waiting("t", "failed", 9) == []
    assert spool.spent("t") == (1, 0.02)


def test_a_build_that_ends_frees_its_claims(tmp_path):
    with Spool(tmp_path) as spool:
        spool.claim("t", wanted("a"), FREE, 0)
    with Spool(tmp_path) as spool:
        assert spool.count("t", "claimed") == 0
        assert spool.spent("t")[0] == 1


def test_the_price_is_reserved_before_the_call(spool):
    budget = Budget(max_usd=0.1, price_usd=0.04)
    claims = [spool.claim("t", wanted(key), budget, 0) for key in "abc"]
    assert claims == ["granted", "granted", "spent"]
    assert spool.claim("other teacher", wanted("d"), budget, 0) == "granted"


def test_the_file_shrinks_when_a_build_ends_that_sealed_its_pictures(tmp_path):
    with Spool(tmp_path) as spool:
        for i in range(40):
            spool.claim("t", wanted(f"k{i}"), FREE, 0)
            spool.record([Picture(f"k{i}", bytes(100_000), "png")])
        spool.mark_sealed([f"k{i}" for i in range(40)])
    assert (tmp_path / "spool.sqlite").stat().st_size < 1_000_000


def test_claiming_a_picture_again_in_the_same_build_counts_one_more_call(spool):
    assert [spool.claim("t", wanted("a"), Budget(price_usd=0.05), 0) for _ in range(2)] == ["granted", "granted"]
    spool.note_cost(Failure("a", "transient", "HTTP 500", 0.0))
    assert spool.spent("t") == (2, 0.05)
    spool.record([Picture("a", b"png", "png", 0.05)])
    assert spool.waiting("t", "drawn", 9)[0].attempts == 2


def test_a_build_counts_its_own_calls_beside_those_of_another(tmp_path):
    with Spool(tmp_path) as one, Spool(tmp_path) as two:
        for key in "abc":
            one.claim("t", wanted(key), Budget(price_usd=0.04), 0)
        two.claim("t", wanted("d"), Budget(price_usd=0.04), 0)
        two.record([Picture("d", b"png", "png", 0.01)])
        assert (one.spent_by_this_build(), two.spent_by_this_build()) == ((3, 0.12), (1, 0.01))
        assert one.spent("t") == two.spent("t") == (4, 0.13)


def test_what_other_ledgers_spent_counts_against_the_budget(spool):
    budget = Budget(max_calls=5, elsewhere=(4, 0.0))
    assert [spool.claim("t", wanted(key), budget, 0) for key in "ab"] == ["granted", "spent"]
    budget = Budget(max_usd=1.0, price_usd=0.5, elsewhere=(1, 0.6))
    assert spool.claim("u", wanted("c"), budget, 0) == "spent"


def test_the_ledger_forgets_sealed_calls_but_not_their_sum(tmp_path):
    with Spool(tmp_path) as spool:
        for i in range(100):
            spool.claim("t", wanted(f"k{i}"), Budget(price_usd=0.01), 0)
            spool.record([Picture(f"k{i}", b"png", "png", 0.01)])
        spool.mark_sealed([f"k{i}" for i in range(100)])
    with Spool(tmp_path) as spool:
        assert spool._database.read("SELECT count(*) FROM calls") == [(0,)]
        assert spool.spent("t") == (100, 1.0)


def test_a_ledger_that_was_lost_starts_from_what_its_commits_say(tmp_path):
    with Spool(tmp_path, "mine") as spool:
        spool.claim("t", wanted("a"), Budget(price_usd=0.5), 0)
        spool.raise_to([Spent("mine", "t", 7, 3.5), Spent("other", "t", 90, 90.0), Spent("mine", "u", 1, 0.0)])
        assert (spool.spent("t"), spool.spent("u")) == ((7, 3.5), (1, 0.0))
        spool.raise_to([Spent("mine", "t", 2, 1.0)])
        assert spool.statement() == [Spent("mine", "t", 7, 3.5), Spent("mine", "u", 1, 0.0)]


def test_a_full_disk_costs_no_answer_because_room_was_reserved(spool, monkeypatch):
    spool.claim("t", wanted("a"), FREE, 0)
    spool.reserve.grow(1 << 20)
    write, tries = spool._write, []

    def full_at_first(claims, answers, costs):
        tries.append(len(answers))
        if len(tries) == 1:
            raise DiskFullError("no room left")
        return write(claims, answers, costs)

    monkeypatch.setattr(spool, "_write", full_at_first)
    with pytest.raises(StoredError, match="no room left"):
        spool.record([Picture("a", b"bytes", "png")])
    assert list(spool.pictures(["a"])) == [b"bytes"]
    tries.clear()
    with pytest.raises(DiskFullError):  # the reserve is used up
        spool.record([Picture("a", b"bytes", "png")])
