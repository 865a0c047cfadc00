"""Two machines, each with a home, a state and a working folder of its own, train one student as one process does."""

import json
import os
import socket
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.distill.tiny import save_student
from tests.pipelines.cli import FAKES, armada, command, ranks_environment
from tests.teacher_cache.sharing.s3_server import KEYS, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RANKS = 2  # of each machine
# Without dropout, which every rank draws for itself, and with wide initial weights, so that the rows differ.
EXACT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def bucket(monkeypatch):
    """The server of an empty bucket; the environment points to it, as a user's would."""
    server = S3Server()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url, "AWS_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    server.client().create_bucket(Bucket="bucket")
    yield server
    server.stop()


def machine(folder, number, port, words):
    """Start the ranks of one machine, as its user does by torchrun."""
    home = folder / f"machine-{number}"
    home.mkdir()
    own = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_STATE_HOME": home / "state"}
    launcher = ["-m", "torch.distributed.run", "--nnodes", 2, "--node_rank", number, "--nproc_per_node", RANKS]
    launcher += ["--master_addr", "127.0.0.1", "--master_port", port, "-m", "pipelines.cli"]
    return subprocess.Popen(
        list(map(str, [sys.executable, *launcher, *words, "--out", "run"])),
        cwd=home,
        env=ranks_environment(**own, ARMADA_HOST=f"machine-{number}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_machines_train_from_one_bucket_each_decoding_once_with_the_losses_of_one_process(tmp_path, bucket):
    rows = [f"good plane number {i},{('negative', 'neutral', 'positive')[i % 3]}" for i in range(20)]
    data, cache = tmp_path / "rows.csv", "s3://bucket/cache"
    data.write_text("text,sentiment\n" + "\n".join(rows) + "\n")
    student = save_student(tmp_path / "student", **EXACT)
    built = armada("cache", "build", data, *FAKES, "--cache", cache)
    assert built.returncode == 0, built.stderr
    words = ["train", "--task", "demo/sentiment", "--student", student, "--cache", cache]
    words += ["--data-files", data, "--batch-size", 8, "--lr", 1e-3, "--dropout", 0, "--precision", "fp32"]
    port = free_port()
    bucket.requests.clear()
    machines = [machine(tmp_path, number, port, words) for number in (0, 1)]
    said = [one.communicate(timeout=800)[1] for one in machines]
    fetched = [one for one in bucket.requests if one.startswith("GET ") and "/shards/" in one and "/features/" in one]
    alone = subprocess.run(
        command(*words, "--out", tmp_path / "one"), env=ranks_environment(), capture_output=True, text=True, timeout=800
    )
    assert alone.returncode == 0, alone.stderr
    assert [one.returncode for one in machines] == [0, 0], "\n".join(said)
    first = tmp_path / "machine-0" / "run"
    facts = json.loads((first / "run.json").read_text())
    assert facts["ranks"] == 2 * RANKS
    for number, errors in enumerate(said):
        assert sum("decode features" in line and " 0/20 " in line for line in errors.splitlines()) == 1, errors
        assert list((tmp_path / f"machine-{number}" / "cache").rglob("in-use")), "its own matrix"
    assert len(set(fetched)) == 1
    assert len(fetched) == 2, "each machine fetches the shard of features once, however many ranks it has"
    assert not (tmp_path / "machine-1" / "run" / "run.json").exists(), "the first rank writes the run"
    lines, expected = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (first, tmp_path / "one")
    )
    assert len(lines) == len(expected) > 0
    for line, one in zip(lines, expected, strict=True):
        for name in one:
            if "loss" in name:
                assert line[name] == pytest.approx(one[name], abs=1e-5), name
    assert any("loss" in name for name in expected[0])
    trained, weights = (load_file(folder / "student" / "model.safetensors") for folder in (first, tmp_path / "one"))
    for name, tensor in weights.items():
        if not name.endswith("key.bias"):  # its gradient is nothing but rounding
            assert (trained[name] - tensor).abs().max() < 1e-4, name
