"""The options of a recipe on the command line: from one's own rows to a student, by a cache that knows its recipe."""

import csv
import json
import shutil

import pytest

from teacher_cache import SpecError
from tests.distill.tiny import save_student
from tests.pipelines.cli import FAKES
from tests.pipelines.run.test_mending import armada
from tests.teacher_cache.batches.batch_server import serving
from tests.teacher_cache.chat_server import chat_server, written

ROWS = 60
TRAIN = ("--epochs", 1, "--batch-size", 32, "--max-length", 8)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with open("rows.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["text", "label"], *([f"freedom number {i}", ["no", "yes"][i % 2]] for i in range(ROWS))])
    return ("rows.csv", "--text-column", "text", "--label-column", "label")


def test_a_rewritten_templated_cache_of_two_samples_trains_by_the_plain_command(rows, tmp_path):
    with chat_server() as chat:
        recipe = ("--prompt-template", "an oil painting: {text}", "--prompt-suffix", ", {warm}")
        recipe += ("--rewrite", f"{chat.spec}&price=0.002")
        build = (*rows, *FAKES, "--cache", "c", "--samples", 2, *recipe, "--json")
        planned = json.loads(armada("cache", "plan", *build).stdout)
        assert (planned["texts_to_rewrite"], planned["texts_rewritten"]) == (planned["unique_prompts"], 0)
        assert planned["rewriting_usd"] == pytest.approx(0.002 * planned["unique_prompts"])
        built = armada("cache", "build", *build)
        assert built.exit_code == 0, built.stderr
        report = json.loads(built.stdout)
        assert report["rewritten"] == report["unique_prompts"] == planned["texts_to_rewrite"]
        assert report["drawn"] == 2 * report["unique_prompts"] == planned["calls"]
        assert report["cost_usd"] == pytest.approx(planned["rewriting_usd"])
        again = json.loads(armada("cache", "plan", *build).stdout)
        assert (again["texts_to_rewrite"], again["rewriting_usd"], again["calls"]) == (0, 0, 0)
    assert set(chat.requested.values()) == {1}
    shutil.move("c", "a colleague's cache")
    student = save_student(tmp_path / "student")
    trained = armada("train", *rows, "--student", student, "--cache", "a colleague's cache", "--out", "run", *TRAIN)
    assert trained.exit_code == 0, trained.stderr
    status = json.loads(armada("cache", "status", "a colleague's cache", "--json").stdout)
    (rewriter,) = status["rewriters"]
    assert (rewriter["texts"], rewriter["calls"]) == (report["unique_prompts"], report["unique_prompts"])
    listed = json.loads(armada("cache", "prompts", "a colleague's cache", "--json").stdout)["rows"]
    texts = {row["text"]: row["drawn_prompt"] for row in listed}
    assert len(texts) == report["unique_prompts"]
    assert all(drawn == f"an oil painting: a scene of {text}, {{warm}}" for text, drawn in texts.items())
    # what the status prints to repeat names the same teacher
    named = status["teachers"][0]["encoders"][0]["options"]
    assert "prompt.template=" in named
    assert "prompt.rewrite=" in named


def test_what_failed_is_said_and_retried_and_a_wrong_recipe_is_one_error(rows):
    refuses = {"freedom number 3"}
    with chat_server(lambda text, number: written("", refusal="no") if text in refuses else f"seen {text}") as chat:
        build = ("rows.csv", *FAKES, "--cache", "c", "--rewrite", chat.spec)
        first = armada("cache", "build", *build, "--limit", 8)
        assert first.exit_code == 3, first.stderr
        assert "refused 1" in first.stdout
        refuses.clear()
        retried = armada("cache", "retry", "c", *FAKES, "--rewrite", chat.spec, "--reason", "refused", "--json")
        assert retried.exit_code == 0, retried.stderr
        assert json.loads(retried.stdout)["retried"][0]["rewritten"] == 1
        text = armada("cache", "status", "c").stdout
        assert "rewriter                     openai-chat-" in text
    for wrong, message in (
        (("--prompt-template", "no place"), r"--prompt-template: expected \{text\} exactly once"),
        (("--rewrite", "gpt-4.1-mini"), "unknown rewriter 'gpt-4.1-mini'; known: openai"),
        (("--rewrite", "openai:x?temperture=1"), "did you mean temperature"),
    ):
        with pytest.raises(SpecError, match=message):
            armada("cache", "plan", "rows.csv", *FAKES, "--cache", "c", *wrong)


def test_a_rewritten_templated_cache_of_two_samples_drawn_by_batch_trains_by_the_plain_command(rows, tmp_path):
    with chat_server() as chat, serving() as server:
        teacher = f"openai-batch:m?base_url={server.url}&price=0.04&poll=0.02"
        recipe = ("--prompt-template", "an oil painting: {text}", "--rewrite", f"{chat.spec}&price=0.002")
        words = ("--teacher", teacher, "--encoder", "tests.fakes:FakeEncoder", "--cache", "c", "--samples", 2, *recipe)
        planned = json.loads(armada("cache", "plan", *rows, *words, "--json").stdout)
        built = armada("cache", "build", *rows, *words, "--wait", "--json")
        assert built.exit_code == 0, built.stderr
        report = json.loads(built.stdout)
        assert report["drawn"] == 2 * report["rewritten"] == len(server.paid)
        assert set(server.paid.values()) == {1}
        assert report["cost_usd"] == pytest.approx(planned["cost_usd"])
        assert planned["cost_usd"] == pytest.approx(0.002 * report["rewritten"] + 0.02 * report["drawn"])
    assert set(chat.requested.values()) == {1}
    student = save_student(tmp_path / "student")
    trained = armada("train", *rows, "--student", student, "--cache", "c", "--samples", 2, "--out", "run", *TRAIN)
    assert trained.exit_code == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["pictures"]["samples"] == 2
