"""Builds that end while batches run, and what comes of them: budgets, prices, keys, caches that move."""

import pytest

from teacher_cache import ArmadaError, BuildOptions, Cache, build, open_teacher, source_of_teacher, status
from teacher_cache.batches import api
from tests import fakes
from tests.teacher_cache.batches.batch_server import serving
from tests.teacher_cache.batches.building import PROMPTS, WAIT, run, state_of, teacher
from tests.teacher_cache.batches.provider import USAGE
from tests.teacher_cache.image_server import serving as online_server


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


def test_an_option_of_the_query_is_sent_with_every_request(cache):
    with serving() as server:
        assert run(cache, server, **{"query.api-version": "2025-04-01"}).drawn == 8
        assert {method for method, _ in server.requests} == {"GET", "POST", "DELETE"}
        assert all("api-version=2025-04-01" in query.split("&") for query in server.queries)


def test_a_file_and_batch_carry_no_secret_and_the_key_is_sent(cache, monkeypatch, capfd):
    monkeypatch.setenv("ARMADA_TEST_KEY", "sk-secret-1234567890")
    with serving("validation fails") as server:
        with pytest.raises(ArmadaError) as raised:
            run(cache, server, key_env="ARMADA_TEST_KEY")
        server.away, server.has_no_batches = 1, True  # and repeats the key
        with pytest.raises(ArmadaError, match="no batches for Bearer \\*\\*\\*") as refused:
            run(cache, server, key_env="ARMADA_TEST_KEY")
        assert server.keys == {"Bearer sk-secret-1234567890"}
        (batch,) = server.batches.values()
        assert "sk-secret" not in str(batch)
        assert "sk-secret" not in str(raised.value) + str(refused.value) + capfd.readouterr().err


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


@pytest.mark.parametrize("lost", ["the folder", "the file"])
@pytest.mark.parametrize("n", [1, 2])
def test_the_batches_of_a_lost_spool_are_found_again_and_not_paid_twice(tmp_path, cache, lost, n, capfd):
    with serving() as server:
        server.looks = 4
        options = BuildOptions(samples=3)
        assert run(cache, server, options, rows=9, n=n).in_batches == 24
        for file in (tmp_path / "user-state").rglob("spool.*"):
            if lost == "the folder" or file.name.startswith("spool.sqlite"):
                file.unlink()
        report = run(cache, server, BuildOptions(samples=3, wait=True), rows=9, n=n)
        assert (report.drawn, report.calls_total, report.in_batches) == (24, 24, 0)
        assert report.cost_usd_total == pytest.approx(24 * 0.02)
        assert set(server.paid.values()) == {1}
        assert len(server.batches) == 3
        assert "of a lost spool is found again" in capfd.readouterr().err
        assert not [file for file in server.files.values() if file["purpose"] == "batch"]
        assert run(cache, server, options).pictures_at_hand == 24


def test_batches_of_another_cache_with_the_same_teacher_are_left_to_it(tmp_path, cache):
    with serving() as server:
        server.looks = 4
        assert run(cache, server, BuildOptions()).in_batches == 8
        other = run(Cache(str(tmp_path / "other"), create=True), server)
        assert (other.drawn, len(server.batches)) == (8, 2)
        assert run(cache, server).drawn == 8


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
