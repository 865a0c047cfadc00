"""A picture bought in a batch is bought once, at half the price, whatever happens to the batch."""

import pytest

from teacher_cache import ArmadaError, BuildOptions, open_teacher, source_of_teacher
from teacher_cache.batches import api, collecting, download
from teacher_cache.building.batches import outbox
from tests.teacher_cache.batches.batch_server import serving
from tests.teacher_cache.batches.building import PROMPTS, run, state_of, teacher


def test_a_batch_brings_each_picture_once_at_half_the_price(cache):
    with serving() as server:
        report = run(cache, server, BuildOptions(wait=True))
        assert (report.drawn, report.encoded, report.calls, report.stopped) == (8, 8, 8, "")
        assert report.cost_usd == pytest.approx(8 * 0.02)
        assert server.pictures == 8
        assert len(server.batches) == 1
        assert not server.files  # the provider's copies are deleted
    assert state_of(cache).cost_usd == pytest.approx(8 * 0.02)


def test_keys_are_those_of_the_online_teacher(cache):
    with serving() as server:
        online = open_teacher(f"openai:gpt-image-1-mini?base_url={server.url}")
        assert source_of_teacher(online).digest == source_of_teacher(teacher(server, poll=5, rows=9)).digest


@pytest.mark.parametrize(
    "fault",
    [
        "expired with half done",
        "cancelled with half done",
        "failed with half done",
        "twice",
        "another order",
        "a key never asked",
        "output late",
        "queue full",
        "rows fail once",
    ],
)
def test_what_a_batch_did_not_bring_is_asked_again_and_nothing_is_paid_twice(cache, fault):
    with serving(fault) as server:
        report = run(cache, server)
        assert (report.drawn, report.failed, report.stopped) == (8, {}, "")
        assert set(server.paid.values()) == {1}
        assert report.cost_usd == pytest.approx(8 * 0.02)
        assert report.calls == 8 + (fault == "rows fail once")
        assert not server.files
    assert state_of(cache).cost_usd == pytest.approx(8 * 0.02)


def test_the_results_of_a_batch_are_lost_only_if_the_provider_has_lost_them_and_are_paid_then(cache, monkeypatch):
    monkeypatch.setattr(collecting, "MISSING_S", 0.1)
    with serving("output missing") as server:
        report = run(cache, server)
        assert (report.drawn, report.failed) == (8, {})
        assert server.pictures == 16
        assert (report.calls, report.cost_usd) == (16, pytest.approx(16 * 0.02))


def test_a_request_without_a_result_is_asked_again_and_its_price_stays_in_the_ledger(cache):
    with serving("no answer to some") as server:
        report = run(cache, server)
        assert (report.drawn, report.calls, server.pictures) == (8, 9, 9)
        assert report.cost_usd == pytest.approx(9 * 0.02)


def test_a_file_that_is_cut_short_gives_what_it_has(cache, monkeypatch):
    monkeypatch.setattr(collecting, "MISSING_S", 0.1)
    with serving("cut short") as server:
        report = run(cache, server)
        assert report.drawn == 8
        assert 8 < server.pictures < 16
        assert report.cost_usd == pytest.approx(server.pictures * 0.02)


def test_a_prompt_that_the_provider_refuses_is_a_failure_that_costs_nothing(cache):
    with serving("error file only") as server:
        report = run(cache, server)
        assert (report.drawn, report.failed, report.cost_usd, report.calls) == (0, {"refused": 8}, 0.0, 8)


def test_a_line_that_fails_validation_is_a_failure_and_the_others_are_sent_again(cache):
    with serving("a line fails validation") as server:
        report = run(cache, server)
        assert (report.drawn, report.failed) == (7, {"permanent": 1})
        assert server.pictures == 7


def test_a_picture_that_is_none_is_an_undecodable_failure_that_was_paid(cache):
    with serving("no picture") as server:
        report = run(cache, server)
        assert (report.drawn, report.failed) == (0, {"undecodable": 8})
        assert report.cost_usd == pytest.approx(8 * 0.02)


def test_a_batch_whose_model_is_refused_ends_the_build_and_leaves_its_rows_missing(cache):
    with serving("validation fails") as server:
        with pytest.raises(ArmadaError, match="model_not_found"):
            run(cache, server)
        assert run(cache, server).drawn == 8
        assert server.pictures == 8
    assert state_of(cache).failures == {}


@pytest.mark.parametrize("heard", ["metadata", "file"])
def test_a_batch_that_was_accepted_without_a_reply_is_found_in_the_list(cache, heard):
    with serving() as server:
        server.unheard, server.has_metadata = {1, 2, 3}, heard == "metadata"
        report = run(cache, server, rows=2)
        assert (report.drawn, len(server.batches)) == (8, 4)
        assert set(server.paid.values()) == {1}


def test_a_server_that_is_away_is_asked_again_for_a_while_and_nothing_is_lost(cache, monkeypatch):
    with serving() as server:
        server.away = 12
        assert run(cache, server).drawn == 8
        assert server.pictures == 8
        monkeypatch.setattr(api, "PATIENCE_S", 0.05)
        server.away, server.looks = 10**6, 3
        with pytest.raises(ArmadaError, match="run the same command again later"):
            run(cache, server, prompts=[*PROMPTS, "one more"])
        server.away = 0
        assert run(cache, server, prompts=[*PROMPTS, "one more"]).drawn == 1
        assert set(server.paid.values()) == {1}


def test_a_queue_that_is_full_is_waited_for_or_given_smaller_batches(cache):
    with serving("ok", "queue full", "queue full") as server:
        assert run(cache, server, rows=4).drawn == 8
        assert set(server.paid.values()) == {1}
    with serving() as server:
        server.most_rows = 2
        report = run(cache, server, prompts=[f"other {i}" for i in range(8)])
        assert report.drawn == 8
        assert set(server.paid.values()) == {1}


def test_a_creation_that_the_provider_refuses_frees_the_rows(cache):
    with serving() as server:
        server.refusal = (400, {"error": {"code": "billing_hard_limit_reached", "message": "no money"}})
        with pytest.raises(ArmadaError, match="billing_hard_limit_reached"):
            run(cache, server)
        server.refusal = (429, {"error": {"code": "token_limit_exceeded", "message": "Enqueued token limit"}})
        report = run(cache, server, BuildOptions())
        assert (report.stopped, report.calls) == ("batches", 0)
        server.refusal = None
        assert run(cache, server).drawn == 8
        assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("has_ranges", [True, False])
def test_results_are_read_in_parts_and_a_cut_download_goes_on_where_it_was(cache, monkeypatch, has_ranges):
    monkeypatch.setattr(download, "PART_BYTES", 1500)
    monkeypatch.setattr(collecting, "_ROWS", 3)
    with serving() as server:
        server.cuts, server.has_ranges = 3, has_ranges
        prompts = [f"prompt {i}" for i in range(40)]
        assert run(cache, server, prompts=prompts).drawn == 40
        assert set(server.paid.values()) == {1}
        whole = 40 * 1500
        assert server.downloaded < (1.5 if has_ranges else 3) * whole


def test_no_more_pictures_than_allowed_are_in_a_file(cache, monkeypatch):
    with serving() as server:
        run(cache, server, rows=3)
        assert [len(batch["lines"]) for batch in server.batches.values()] == [3, 3, 2]
    monkeypatch.setattr(outbox, "MOST_BYTES", 900)
    with serving() as server:
        run(cache, server, prompts=["a" * 200, "b" * 200, "c" * 200])
        assert [len(batch["lines"]) for batch in server.batches.values()] == [2, 1]
