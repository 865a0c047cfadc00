"""A picture bought in a batch is bought once, at half the price, whatever happens to the batch or to the build."""

import pytest

from teacher_cache import ArmadaError, BuildOptions, Cache, build, open_teacher, source_of_teacher, status
from teacher_cache.batches import api, collecting, download
from teacher_cache.building.batches import outbox
from tests import fakes
from tests.teacher_cache.batches.batch_server import USAGE, serving
from tests.teacher_cache.image_server import serving as online_server

PROMPTS = [f"prompt {i}" for i in range(8)]
WAIT = BuildOptions(wait=True)


def teacher(server, **options):
    words = {"base_url": server.url, "price": "0.04", "poll": "0.02", **options}
    return open_teacher("openai-batch:gpt-image-1-mini?" + "&".join(f"{k}={v}" for k, v in words.items()))


def run(cache, server, options=WAIT, prompts=PROMPTS, **spec):
    return build(cache, prompts, teacher(server, **spec), fakes.encoder(), options)


def state_of(cache):
    (state,) = status(cache)
    return state


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


def test_a_build_ends_while_its_batch_runs_and_the_next_one_collects_it(cache):
    with serving() as server:
        server.looks = 4
        first = run(cache, server, BuildOptions())
        assert (first.drawn, first.calls, first.cost_usd) == (0, 0, 0.0)
        assert (first.stopped, first.in_batches) == ("batches", 8)
        (state,) = status(cache)
        assert (state.in_batches, state.in_flight) == ({"in_progress": 8}, 0)
        assert (state.cost_usd, state.reserved_usd) == (0.0, pytest.approx(8 * 0.02))
        second = run(cache, server, BuildOptions(), prompts=[*PROMPTS, "one more"])
        assert second.in_batches == 9
        last = run(cache, server, WAIT, prompts=[*PROMPTS, "one more"])
        assert (last.drawn, last.stopped, last.in_batches) == (9, "", 0)
        assert set(server.paid.values()) == {1}
        assert len(server.batches) == 2
    (state,) = status(cache)
    assert (state.in_batches, state.reserved_usd, state.cost_usd) == ({}, 0.0, pytest.approx(9 * 0.02))


def test_a_batch_of_other_prompts_is_collected_too(cache):
    with serving() as server:
        server.looks = 3
        assert run(cache, server, BuildOptions()).in_batches == 8
        run(cache, server, BuildOptions(), prompts=["another"])
        report = run(cache, server, WAIT, prompts=["another"])
        assert report.in_batches == 0
        assert state_of(cache).pictures + state_of(cache).in_spool >= 1
        assert run(cache, server).drawn + state_of(cache).pictures >= 8
        assert set(server.paid.values()) == {1}


def test_a_budget_reserves_whole_batches_before_they_are_sent(cache):
    with serving() as server:
        server.looks = 50
        options = BuildOptions(budget_usd=0.10)
        report = run(cache, server, options, rows=3)
        assert (report.stopped, report.in_batches) == ("budget", 5)
        assert run(cache, server, options, rows=3).in_batches == 5
        assert sum(len(batch["lines"]) for batch in server.batches.values()) == 5
        online = open_teacher(f"openai:gpt-image-1-mini?base_url={server.url}&price=0.04")
        assert build(cache, PROMPTS, online, fakes.encoder(), options).calls == 0  # what is reserved counts for all
        server.looks = 1
        report = run(cache, server, BuildOptions(max_calls=6, wait=True), rows=3)
        assert (report.stopped, report.calls_total, server.pictures) == ("budget", 6, 6)
        assert report.cost_usd_total == pytest.approx(6 * 0.02)


def test_what_usage_shows_is_the_cost_and_frees_the_rest_of_the_reserve(cache, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpt-image-1-mini: {default: 0.04, tokens: {text_input: 2, image_input: 2, image_output: 100}}")
    with serving() as server:
        server.usage = USAGE
        report = run(cache, server, BuildOptions(budget_usd=0.07, wait=True), price="", prices=str(prices))
        each = (10 * 2 + 100 * 100) / 1e6 / 2
        assert (report.drawn, report.stopped) == (8, "")  # a batch at a time, each out of what the others left
        assert report.cost_usd == pytest.approx(8 * each)
    state = state_of(cache)
    assert (state.cost_usd, state.reserved_usd) == (pytest.approx(8 * each), 0.0)


def test_half_is_drawn_by_batch_and_the_rest_online_into_one_cache(cache):
    with serving() as server, online_server() as other:
        server.looks = 4
        words = {"as": "one", "price": "0.04"}
        batch = teacher(server, **words)
        first = build(cache, PROMPTS[:4], batch, fakes.encoder(), BuildOptions())
        assert first.in_batches == 4
        online = open_teacher(f"openai:gpt-image-1-mini?base_url={other.url}&as=one&price=0.04")
        report = build(cache, PROMPTS, online, fakes.encoder())
        assert (report.drawn, report.in_batches, report.stopped) == (4, 4, "batches")
        last = build(cache, PROMPTS, teacher(server, **words), fakes.encoder(), WAIT)
        assert (last.drawn, last.pictures_at_hand) == (4, 4)
        assert sum(other.requested.values()) == server.pictures == 4
    assert state_of(cache).cost_usd == pytest.approx(4 * 0.02 + 4 * 0.04)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_samples_of_a_prompt_differ_and_may_come_in_one_request(cache, n):
    with serving("expired with half done") as server:
        report = run(cache, server, BuildOptions(samples=3, wait=True), prompts=PROMPTS[:3], n=n)
        assert (report.drawn, report.calls) == (9, 9)
        assert sum(body.get("n", 1) for body in server.bodies.values()) == 9
        assert report.cost_usd == pytest.approx(9 * 0.02)
        images = cache.images(source_of_teacher(teacher(server)))
        assert len(set(images["image_sha256"].to_pylist())) == 9


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


def test_a_file_and_batch_carry_no_secret_and_the_key_is_sent(cache, monkeypatch, capfd):
    monkeypatch.setenv("ARMADA_TEST_KEY", "sk-secret-1234567890")
    with serving("validation fails") as server:
        with pytest.raises(ArmadaError) as raised:
            run(cache, server, key_env="ARMADA_TEST_KEY")
        assert server.keys == {"Bearer sk-secret-1234567890"}
        (batch,) = server.batches.values()
        assert "sk-secret" not in str(batch)
        assert "sk-secret" not in str(raised.value) + capfd.readouterr().err


@pytest.mark.parametrize("option", ["poll=0", "rows=0", "rows=50001", "rows=x", "seeed=true"])
def test_an_option_that_cannot_be_used_is_refused(option):
    with pytest.raises(ArmadaError, match=r"option"):
        open_teacher(f"openai-batch:m?base_url=http://127.0.0.1:1/v1&{option}")


def test_a_cache_that_was_moved_takes_its_batches_with_it(tmp_path):
    with serving() as server:
        server.looks = 4
        run(Cache(str(tmp_path / "a"), create=True), server, BuildOptions())
        (tmp_path / "a").rename(tmp_path / "b")
        report = run(Cache(str(tmp_path / "b")), server)
        assert (report.drawn, report.calls_total) == (8, 8)
        assert report.cost_usd_total == pytest.approx(8 * 0.02)
        assert set(server.paid.values()) == {1}


def test_a_damaged_spool_keeps_its_batches(tmp_path, cache):
    with serving() as server:
        server.looks = 4
        run(cache, server, BuildOptions())
        (file,) = (tmp_path / "user-state").rglob("spool.sqlite")
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size + 100)
            stream.seek(0)
            stream.write(b"\0" * 100)
        assert run(cache, server).drawn == 8
        assert set(server.paid.values()) == {1}


def test_a_complete_cache_needs_neither_the_key_nor_the_server(cache, monkeypatch):
    monkeypatch.setenv("ARMADA_TEST_KEY", "sk-secret-1234567890")
    with serving() as server:
        run(cache, server, key_env="ARMADA_TEST_KEY")
        monkeypatch.delenv("ARMADA_TEST_KEY")
        requests = len(server.requests)
        report = run(cache, server, key_env="ARMADA_TEST_KEY")
        assert (report.pictures_at_hand, report.stopped, len(server.requests)) == (8, "", requests)


def test_a_batch_that_was_never_sent_to_one_server_is_sent_to_the_next(cache, monkeypatch):
    monkeypatch.setattr(api, "UNREACHABLE_S", 0.05)
    words = {"as": "one"}
    with pytest.raises(ArmadaError, match="no answer"):
        build(
            cache,
            PROMPTS,
            open_teacher("openai-batch:gpt-image-1-mini?base_url=http://127.0.0.1:9/v1&as=one"),
            fakes.encoder(),
        )
    with serving() as server:
        assert run(cache, server, **words).drawn == 8
        assert server.pictures == 8
