"""Prices on the command line: what plan and pilot say before a call, and what pilot, status, plan and the ledger say
after a run whose calls cost what their usage says, fail, time out and are repeated: all agree with the provider's bill.
"""

import json
import threading

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from teacher_cache import Cache
from teacher_cache.building import retries
from teacher_cache.teachers import rate_limit
from tests.fakes import png
from tests.teacher_cache.image_server import KEY, drawn, error, serving

ROWS, LISTED = 130, 0.02
LATE = ("thing 3", "thing 77")  # time out at the first call, which is paid for
FAULTY = ("thing 5", "thing 40", "thing 111")  # HTTP 500 at the first call, which is free
REFUSED = ("thing 9", "thing 120")


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Provider:
    """Draws, misbehaves by prompt, and writes its bill."""

    def __init__(self):
        self.bill, self.lock = 0.0, threading.Lock()

    def __call__(self, prompt, number):
        if prompt in REFUSED:
            return error(400, code="content_policy_violation")
        if prompt in FAULTY and number == 1:
            return "500"
        if prompt in LATE and number == 1:
            with self.lock:
                self.bill += LISTED
            return "late"
        place = int(prompt.split()[-1])
        usage = {"input_tokens": 20 + place, "output_tokens": 480 + place}
        with self.lock:
            self.bill += (usage["input_tokens"] * 5 + usage["output_tokens"] * 40) / 1e6
        return drawn(png(place), usage=usage)


def armada(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def facts(*words):
    return json.loads(armada(*words, "--json").stdout)


def test_plan_pilot_status_and_the_ledger_agree_with_the_bill_to_the_cent(tmp_path):
    table, folder = tmp_path / "prices.yaml", tmp_path / "rows"
    folder.mkdir()
    for name, first, count in (("train", 0, ROWS), ("validation", 500, 10), ("test", 600, 10)):
        lines = [json.dumps({"text": f"thing {n}", "label": "ab"[n % 2]}) for n in range(first, first + count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rows = folder / "train.jsonl"
    table.write_text(
        f"m: {{date: 2026-11-01, tokens: {{text_input: 5, image_output: 40}}, pictures: {{default: {LISTED}}}}}"
    )
    provider = Provider()
    with serving(provider) as server:
        teacher = f"openai:m?base_url={server.url}&key_env=TEST_IMAGE_KEY&prices={table}&timeout=1.0&concurrency=8"
        named = ("--teacher", teacher, "--encoder", "tests.fakes:FakeEncoder", "--cache", tmp_path / "cache")
        planned = facts("cache", "plan", rows, "--text-column", "text", *named)
        assert (planned["calls"], planned["cost_usd"], planned["spent_usd"]) == (ROWS, pytest.approx(ROWS * LISTED), 0)
        assert not (tmp_path / "cache").exists()

        words = ("pilot", folder, "--text-column", "text", "--label-column", "label", *named, "--text-encoder", "none")
        run = armada(*words, "--prompts", 115, "--out", tmp_path / "pilot", "--json")
        assert run.exit_code == 0
        assert "115 pictures to draw at 0.0200 USD each: 2.30 USD; 130 for the whole task: 2.60 USD" in run.stderr
        assert "prices of 2026-11-01, " in run.stderr.partition("it/s")[0].partition("picture/s")[0]
        pilot = json.loads(run.stdout)["price"]
        paid = round(provider.bill, 6)
        assert pilot["cost_usd"] == pytest.approx(paid, abs=1e-6)

        (state,) = facts("cache", "status", tmp_path / "cache")["teachers"]
        planned = facts("cache", "plan", rows, "--text-column", "text", *named)
        cache = Cache(str(tmp_path / "cache"))
        ledger = cache.spent(cache.teachers()[0].digest)
        assert [round(usd, 2) for usd in (state["cost_usd"], planned["spent_usd"], ledger[1])] == [round(paid, 2)] * 3
        assert ledger == (state["calls"], pytest.approx(paid, abs=1e-6))
        assert planned["calls"] == pilot["whole_calls"] == ROWS - 115
        assert planned["usd_per_picture"] == pilot["usd_per_picture"] == pytest.approx(paid / 115)
        assert planned["cost_usd"] == pilot["whole_usd"]
        assert server.requested.total() == state["calls"]

        report = facts("cache", "build", rows, "--text-column", "text", *named)
        assert report["cost_usd"] == pytest.approx(provider.bill - paid, abs=1e-6)
        assert report["cost_usd_total"] == pytest.approx(provider.bill, abs=1e-6)
        assert (report["calls"], report["calls_total"]) == (
            server.requested.total() - state["calls"],
            server.requested.total(),
        )
        assert {*LATE, *FAULTY} == {prompt for prompt, calls in server.requested.items() if calls > 1}
        (state,) = facts("cache", "status", tmp_path / "cache")["teachers"]
        assert round(state["cost_usd"], 2) == round(provider.bill, 2)


def test_a_new_cache_is_told_the_price_its_age_and_the_price_by_batch_before_any_call(tmp_path):
    (tmp_path / "p.txt").write_text("a\nb\n")
    words = ("cache", "plan", tmp_path / "p.txt", "--cache", tmp_path / "c", "--encoder", "tests.fakes:FakeEncoder")
    run = armada(*words, "--teacher", "openai:gpt-image-2.5-flare?size=1024x1024&quality=low")
    assert "cost usd                     0.0118" in run.stdout
    assert "cost usd by batch            0.0059" in run.stdout
    assert "prices of 2026-09-26, " in run.stderr
    assert "days old, from https://developers.openai.com" in run.stderr
    assert "retired" not in run.stderr


@pytest.mark.parametrize("command", ["plan", "build"])
def test_a_retired_model_is_warned_of_before_any_call(command, tmp_path):
    (tmp_path / "p.txt").write_text("a\n")
    words = ("cache", command, tmp_path / "p.txt", "--cache", tmp_path / "c", "--encoder", "tests.fakes:FakeEncoder")
    run = armada(*words, "--teacher", "openai:gpt-image-1?key_env=NO_SUCH_KEY")
    assert "gpt-image-1 was retired on 2026-10-23" in run.stderr
    assert "instead: gpt-image-2.6-flare" in run.stderr
