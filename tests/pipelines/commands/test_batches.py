"""The command line of builds by batch: code 5 while pictures are in flight; one price in plan, status and ledger."""

import json

import pytest

from tests.pipelines.cli import armada
from tests.teacher_cache.batches.batch_server import serving


def test_a_build_ends_with_code_5_until_its_batches_have_come_and_all_commands_agree_on_the_price(tmp_path):
    prompts, cache = tmp_path / "prompts.txt", tmp_path / "cache"
    prompts.write_text("".join(f"prompt {i}\n" for i in range(5)))
    with serving() as server:
        server.looks = 5
        spec = f"openai-batch:m?base_url={server.url}&price=0.04&poll=0.05"
        words = (prompts, "--teacher", spec, "--encoder", "tests.fakes:FakeEncoder", "--cache", cache)
        plan = json.loads(armada("cache", "plan", *words, "--json").stdout)
        assert (plan["calls"], plan["cost_usd"]) == (5, pytest.approx(0.10))
        first = armada("cache", "build", *words, "--json")
        assert first.returncode == 5
        assert "run the same command again" in " ".join(first.stderr.split()).lower()
        assert json.loads(first.stdout)["in_batches"] == 5
        plan = json.loads(armada("cache", "plan", *words, "--json").stdout)
        assert (plan["calls"], plan["in_batches"], plan["cost_usd"]) == (0, 5, 0.0)
        (state,) = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"]
        assert (state["in_batches"], state["reserved_usd"]) == ({"in_progress": 5}, pytest.approx(0.10))
        last = armada("cache", "build", *words, "--wait", "--json")
        assert last.returncode == 0
        (state,) = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"]
        costs = json.loads(last.stdout)["cost_usd"], state["cost_usd"]
        assert costs == (pytest.approx(0.10), pytest.approx(0.10))
        assert (server.pictures, state["calls"], state["reserved_usd"]) == (5, 5, 0.0)


def test_waiting_for_a_teacher_without_batches_is_one_clear_error(tmp_path):
    (tmp_path / "prompts.txt").write_text("a prompt\n")
    words = ("--teacher", "tests.fakes:FakeTeacher", "--encoder", "tests.fakes:FakeEncoder", "--cache", tmp_path / "c")
    found = armada("cache", "build", tmp_path / "prompts.txt", *words, "--wait")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "sends no batches" in found.stderr
