"""The commands have the promised exit codes, print one JSON object, and report errors without a traceback."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.documents import blocks
from tests.pipelines.cli import FAKES, ROOT, armada, command, environment


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"prompt {i}\n" for i in range(12)))
    return path


def test_build_status_and_plan_print_one_json_object(tmp_path, prompts):
    cache = tmp_path / "cache"
    built = armada("cache", "build", prompts, *FAKES, "--cache", cache, "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["calls"] == 12
    again = json.loads(armada("cache", "build", prompts, *FAKES, "--cache", cache, "--json").stdout)
    assert (again["calls"], again["calls_total"]) == (0, 12)
    state = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"][0]
    assert (state["pictures"], state["calls"], state["encoders"][0]["features"]) == (12, 12, 12)
    planned = json.loads(armada("cache", "plan", prompts, *FAKES, "--cache", cache, "--limit", 5, "--json").stdout)
    assert (planned["unique_prompts"], planned["calls"]) == (5, 0)


def test_maintenance_commands_print_one_json_object_and_keep_the_rows(tmp_path, prompts):
    cache, other, tars, samples = (tmp_path / name for name in ("c", "other", "tars", "samples"))
    options = ("--seal-rows", 3, "--shard-rows", 4)
    assert armada("cache", "build", prompts, *FAKES, "--cache", cache, *options).returncode == 0

    def facts(*words):
        result = armada("cache", *words, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert facts("verify", cache, "--recompute", 2, *FAKES)["problems"] == []
    done = facts("compact", cache, "--vacuum", "--retain", 0)
    assert done["shards_after"] < done["shards_before"]
    facts("merge", cache, other)
    facts("export", other, tars, "--to", "parquet")
    assert facts("export", other, samples, "--to", "webdataset")["features"] == 12
    state = json.loads(armada("cache", "status", tars, "--json").stdout)["teachers"][0]
    assert (state["pictures"], state["encoders"][0]["features"]) == (12, 12)
    shard = next(iter((cache / "images").rglob("*.tar")))
    shard.write_bytes(shard.read_bytes()[:-600])
    broken = armada("cache", "verify", cache, "--json")
    assert broken.returncode == 3
    assert str(shard.relative_to(cache)) in [problem["path"] for problem in json.loads(broken.stdout)["problems"]]


def test_a_build_on_a_cache_that_lacks_a_tar_stops_with_one_line_and_draws_it_again_when_it_is_told_to(
    tmp_path, prompts
):
    cache = tmp_path / "c"
    words = ("cache", "build", prompts, *FAKES, "--cache", cache, "--json")
    assert armada(*words).returncode == 0
    next((cache / "images").rglob("*.tar")).unlink()
    stopped = armada(*words)
    assert (stopped.returncode, stopped.stdout) == (2, "")
    (line,) = stopped.stderr.splitlines()
    assert "build with --redraw-missing if they are gone for good" in line
    again = armada(*words, "--redraw-missing")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["calls"] == 12


def test_every_command_that_the_documents_name_exists():
    named = set(re.findall(r"^armada ((?:cache )?[a-z]+)", "\n".join(blocks("bash")), re.MULTILINE))
    assert {"cache build", "cache verify", "study", "report"} <= named
    for command_words in sorted(named):
        shown = armada(*command_words.split(), "--help")
        assert shown.returncode == 0, command_words


def test_status_counts_the_coverage_of_a_task(tmp_path):
    built = armada("cache", "build", "demo/sentiment", *FAKES, "--cache", tmp_path / "c", "--limit", 20)
    assert built.returncode == 0, built.stderr
    state = json.loads(armada("cache", "status", tmp_path / "c", "--json").stdout)
    (task,) = state["tasks"]
    assert (task["task"], task["pictures"], task["features"], task["failed"]) == ("demo/sentiment", 20, 20, 0)
    assert task["prompts"] > 20_000
    assert state["teachers"][0]["per_second"] > 0


def test_failed_rows_are_exit_code_3_and_a_reached_budget_4(tmp_path, prompts):
    with prompts.open("a") as stream:
        stream.write("[refused] something\n")
    budget = armada("cache", "build", prompts, *FAKES, "--cache", tmp_path / "c", "--max-calls", 3)
    assert budget.returncode == 4
    assert "the budget is reached" in budget.stderr
    failed = armada("cache", "build", prompts, *FAKES, "--cache", tmp_path / "c")
    assert failed.returncode == 3
    assert "refused 1" in failed.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cache", "status", "/nowhere"), "no cache here"),
        (("cache", "build", "prompts.xlsx", *FAKES, "--cache", "/tmp/none"), "no such file|expected a file ending"),
        (
            ("cache", "build", "demo/nothing", *FAKES, "--cache", "/tmp/none"),
            "expected a file or a task, found neither",
        ),
        (("tasks", "nothing"), "no task 'nothing'; known: demo/sentiment"),
        (("train", "--task", "demo/sentiment", "--student", "minilm", "--out", "/tmp/none"), "--cache URL is missing"),
        (
            ("train", "--task", "demo/sentiment", "--student", "minilm", "--out", "/tmp/n", "--manifold", "flat"),
            "--manifold: expected one of cosine",
        ),
        (
            (
                "train",
                "--task",
                "demo/sentiment",
                "--student",
                "/no/where",
                "--out",
                "/tmp/n",
                "--control",
                "undistilled",
            ),
            "/no/where: no student here",
        ),
    ],
)
def test_bad_usage_is_exit_code_2_with_a_message_and_no_traceback(words, message):
    run = armada(*words)
    assert run.returncode == 2, run.stderr
    assert re.search(message, run.stderr), run.stderr
    assert "Traceback" not in run.stderr
    assert not Path("/tmp/none").exists()


def test_sigint_while_a_batch_is_encoded_ends_the_process_at_once(tmp_path, prompts):
    cache = tmp_path / "cache"
    words = command("cache", "build", prompts, *FAKES, "--cache", cache)
    process = subprocess.Popen(words, env=environment(ARMADA_FAKE_ENCODER_DELAY=60), stderr=subprocess.PIPE, text=True)
    while not list(cache.glob("images/*/shards/*")):
        time.sleep(0.02)
    time.sleep(1)  # the encoder is in its first batch
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=50)
    assert time.monotonic() - started < 5  # well under a second on an idle machine
    assert process.returncode == 130, errors
    assert armada("cache", "build", prompts, *FAKES, "--cache", cache).returncode == 0


def test_sigint_keeps_every_picture_and_the_same_command_continues(tmp_path, prompts):
    cache, log = tmp_path / "cache", tmp_path / "log"
    words = command("cache", "build", prompts, *FAKES, "--cache", cache)
    process = subprocess.Popen(
        words, env=environment(ARMADA_FAKE_LOG=log, ARMADA_FAKE_DELAY=0.3), stderr=subprocess.PIPE, text=True
    )
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Run the same command again to continue" in errors
    drawn = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"][0]["pictures"]
    assert drawn == len(log.read_text().splitlines())
    assert armada("cache", "build", prompts, *FAKES, "--cache", cache, ARMADA_FAKE_LOG=log).returncode == 0
    calls = log.read_text().splitlines()
    assert len(calls) == len(set(calls)) == 12


def test_a_retry_with_nothing_to_do_says_so_and_names_the_other_reasons(tmp_path, prompts):
    url = tmp_path / "c"
    assert armada("cache", "build", prompts, *FAKES, "--cache", url).returncode == 0
    nothing = armada("cache", "retry", url, *FAKES)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "nothing to retry: no picture failed for the reason transient\n"
    with prompts.open("a") as stream:
        stream.write("[refused] something\n")
    assert armada("cache", "build", prompts, *FAKES, "--cache", url).returncode == 3
    assert armada("cache", "retry", url, *FAKES).stderr.endswith("transient; others failed: --reason refused\n")


def test_the_page_of_the_command_line_is_what_the_program_prints():
    words = [sys.executable, "-m", "typer", "pipelines.cli", "utils", "docs", "--name", "armada"]
    printed = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=100, check=True).stdout
    page = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    assert page.strip() == printed.strip(), "run make docs"
