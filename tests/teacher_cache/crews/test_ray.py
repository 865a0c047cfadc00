"""Ray: workers, machines and coordinators that are killed leave what one process builds, within one budget."""

import json
import os
import socket
from collections import Counter
from types import SimpleNamespace

import pytest

from teacher_cache import ArmadaError, Cache, RayCluster, RayCrew, ray_options
from tests.teacher_cache.crews.builds import content, start, words, write_prompts
from tests.teacher_cache.crews.namespaces import run_with_ray

BUILDS = "tests.teacher_cache.crews.ray_builds"
slow = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]


def one_process(folder, rows):
    """Build the prompts that lie in a folder by one process; return what is in the cache, and the report."""
    single = start(*words(write_prompts(folder, rows), folder / "single"))
    out, errors = single.communicate(timeout=1200)
    assert single.returncode == 3, errors
    return content(folder / "single"), json.loads(out)


def ledgers(folder):
    """Return the ledgers that have spent."""
    return Counter(record.ledger for commit in Cache(str(folder)).commits() for record in commit.spent if record.calls)


@pytest.mark.faults
def test_an_actor_with_a_notice_of_termination_commits_and_another_one_goes_on(tmp_path):
    found = run_with_ray(BUILDS, tmp_path, 40, "one", "notice", seconds=280)
    assert found["code"] == 3, found["errors"]
    assert "another one takes its place" in found["errors"]
    assert "Traceback" not in found["errors"]
    assert found["calls"] == found["unique"] == found["report"]["calls_total"] == 40
    rows = Counter(facts[0] if len(facts[0]) < 64 else facts[1] for facts in content(tmp_path / "cache").values())
    assert rows == {"1": 38, "refused": 2}, "a picture with one feature, or a reason"


class TestKills:
    """Whole machines, and many kills: minutes."""

    pytestmark = slow

    def test_two_actors_and_the_coordinator(self, tmp_path):
        rows = int(os.environ.get("ARMADA_RAY_ROWS", "200"))  # 2000 for the full promise
        found = run_with_ray(BUILDS, tmp_path, rows, "one,two", "actor,actor,coordinator")
        assert found["code"] == 3, found["errors"]
        assert "Traceback" not in found["errors"]
        expected, report = one_process(tmp_path, rows)
        assert content(tmp_path / "cache") == expected
        assert found["unique"] == rows
        # In flight are one call of each actor killed, and of both when the coordinator is.
        assert rows <= found["calls"] <= rows + 4
        assert found["report"]["failed"] == report["failed"]
        assert found["calls"] <= found["report"]["calls_total"] <= rows + 4
        assert len(ledgers(tmp_path / "cache")) == 2, "each machine has its own spool, and commits what is in it"

    def test_a_machine_that_comes_back_with_its_disk_loses_its_call_in_flight(self, tmp_path):
        found = run_with_ray(BUILDS, tmp_path, 200, "one,two", "reboot")
        assert found["code"] == 3, found["errors"]
        assert "Traceback" not in found["errors"]
        assert content(tmp_path / "cache") == one_process(tmp_path, 200)[0]
        assert found["unique"] == 200
        assert 200 <= found["calls"] <= 202
        assert found["report"]["calls_total"] >= found["calls"]

    def test_a_machine_that_is_lost_with_its_disk_loses_what_was_not_sealed_and_the_others_go_on(self, tmp_path):
        found = run_with_ray(BUILDS, tmp_path, 200, "one,two", "node")
        assert found["code"] == 3, found["errors"]
        assert "Traceback" not in found["errors"]
        assert content(tmp_path / "cache") == one_process(tmp_path, 200)[0]
        assert found["unique"] == 200
        assert 200 <= found["calls"] <= 200 + 2 * 20 + 2, "at most two seals are under way"

    @pytest.mark.parametrize("kills", ["actor,coordinator", "node", "reboot,actor"])
    def test_spending_is_never_over_the_cap(self, tmp_path, kills):
        price, cap = 0.01, 1.5
        teacher = f"tests.fakes:FakeTeacher?price={price}"
        options = ("--budget-usd", cap, "--teacher", teacher)  # the last --teacher counts
        found = run_with_ray(BUILDS, tmp_path, 200, "one,two", kills, *options)
        assert found["code"] == 4, found["errors"]
        assert found["calls"] * price <= cap + 1e-9
        assert found["calls"] >= 100, "and what is left of it is used"
        assert found["report"]["cost_usd_total"] <= cap + 1e-9


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
    crew.cluster.ray = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: nodes)
    with pytest.raises(ArmadaError, match=r"--ray-options: no machine of the cluster has .*GPU"), crew:
        pass


def test_what_ray_prints_is_not_in_a_commands_output(capsys):
    pytest.importorskip("ray")
    cluster = RayCluster("auto")
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    cluster.ray = SimpleNamespace(
        is_initialized=lambda: False, init=lambda **_: None, shutdown=lambda: None, nodes=lambda: nodes
    )
    with cluster:
        print("(raylet) a machine was lost")
    print("{}")
    printed = capsys.readouterr()
    assert printed.out == "{}\n"
    assert "a machine was lost" in printed.err


def test_an_address_where_no_cluster_is_is_an_error_at_once():
    pytest.importorskip("ray")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ArmadaError, match=f"--ray {address}: no Ray cluster answers there"), RayCrew(address, 2):
            pass
