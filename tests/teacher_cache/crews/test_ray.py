"""Ray: two nodes whose actors and whose coordinator are killed build what one process builds, within one budget.

Ray binds to the machine's own address whatever it is told, so that these tests run in a network namespace of their own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from teacher_cache import ArmadaError, Cache, RayCrew, ray_options
from tests.pipelines.cli import ROOT
from tests.teacher_cache.crews.builds import content, start, words, write_prompts


def has_namespaces() -> bool:
    """Return whether a network namespace with a loopback address can be made here."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return not subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True).returncode


@pytest.fixture
def short_folder():
    """A folder with a short path: Ray's sockets lie in it."""
    folder = Path("/tmp") / f"ray-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run_cluster(folder: Path, temporary: Path, *arguments: object) -> dict:
    """Run `ray_cluster.py` and return what it prints."""
    pytest.importorskip("ray")
    if not has_namespaces():
        pytest.skip("no network namespace can be made here")
    program = [sys.executable, "-m", "tests.teacher_cache.crews.ray_cluster", str(folder), *map(str, arguments)]
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "RAY_TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=1700,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_ray_with_two_actors_and_the_coordinator_killed_builds_what_one_process_builds(tmp_path, short_folder):
    rows = int(os.environ.get("ARMADA_RAY_ROWS", "200"))  # 2000 for the full promise
    found = run_cluster(tmp_path, short_folder, rows, 2, 1)
    assert found["killed"] == ["actor", "actor", "coordinator"]
    assert found["code"] == 3, found["errors"]
    assert "Traceback" not in found["errors"]
    prompts = write_prompts(tmp_path, rows)
    single = start(*words(prompts, tmp_path / "single"))
    out, errors = single.communicate(timeout=1200)
    assert single.returncode == 3, errors
    assert content(tmp_path / "cache") == content(tmp_path / "single")
    assert found["unique"] == rows
    # In flight are one call of each actor killed, and of both when the coordinator is.
    assert rows <= found["calls"] <= rows + 4
    assert found["report"]["failed"] == json.loads(out)["failed"]
    assert found["calls"] <= found["report"]["calls_total"] <= rows + 4
    ledgers = Counter(
        record.ledger for commit in Cache(str(tmp_path / "cache")).commits() for record in commit.spent if record.calls
    )
    assert len(ledgers) == 2, "each machine has its own spool, and commits what is in it"


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_ray_workers_that_are_killed_never_spend_more_than_the_cap(tmp_path, short_folder):
    found = run_cluster(tmp_path, short_folder, 200, 1, 1, "--max-calls", 150)
    assert found["code"] == 4, found["errors"]
    assert 140 <= found["calls"] <= 150
    assert found["calls"] <= found["report"]["calls_total"] <= 150


def test_ray_options_are_numbers_by_name():
    assert ray_options("") == {"num_cpus": 1.0}
    assert ray_options("num_gpus=1,num_cpus=0.5,spot=1") == {
        "num_cpus": 0.5,
        "num_gpus": 1.0,
        "resources": {"spot": 1.0},
    }
    for text in ("num_gpus", "num_gpus=some", "=1", "num_gpus=-1"):
        with pytest.raises(ArmadaError, match=r"--ray-options: expected NAME=NUMBER"):
            ray_options(text)


def test_a_cluster_without_the_resources_is_an_error_in_words():
    pytest.importorskip("ray")
    crew = RayCrew("auto", 2, ray_options("num_gpus=1"))
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    crew._ray = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: nodes)
    with pytest.raises(ArmadaError, match=r"--ray-options: no machine of the cluster has .*GPU"), crew:
        pass


def test_an_address_where_no_cluster_is_is_an_error_at_once():
    pytest.importorskip("ray")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ArmadaError, match=f"--ray {address}: no Ray cluster answers there"), RayCrew(address, 2):
            pass
