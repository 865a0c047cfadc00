"""A study on a Ray cluster: one run is one actor; what is killed starts again, and the results are those of --jobs."""

import json
import os
from types import SimpleNamespace

import pytest

from pipelines.study.cluster_runs import ClusterRuns
from pipelines.study.run import Run
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada
from tests.pipelines.run.test_mending import armada as in_process
from tests.pipelines.studies import write_study
from tests.teacher_cache.crews.namespaces import run_with_ray


class RayError(Exception):
    """As Ray's: the actor is dead."""


class RayTaskError(RayError):
    """As Ray's: the actor raised `cause`."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Cluster:
    """A cluster of two CPUs whose actors end at once, each with the next of these results; an error is raised."""

    def __init__(self, *results):
        self.options = {"num_cpus": 1.0}
        self.results, self.started, self.killed = list(results), [], 0
        errors = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.ray = SimpleNamespace(
            put=lambda value: value,
            wait=lambda calls, **_: (calls[:1], calls[1:]),
            get=self._get,
            kill=self._kill,
            exceptions=errors,
        )

    def room(self, most):
        return min(most, 2)

    def actor(self, kind, *arguments):
        def remote(of_all, run, folder, threads):
            self.started.append(run.name)
            return len(self.started)

        return SimpleNamespace(do=SimpleNamespace(remote=remote))

    def _get(self, call):
        result = self.results[call - 1]
        if isinstance(result, Exception):
            raise result
        return result

    def _kill(self, actor):
        self.killed += 1


RUN = Run("finetune", "relational", 0)


def test_a_run_whose_actor_was_killed_is_started_again(tmp_path):
    said, cluster = [], Cluster(RayError("killed"), {"readouts": {}})
    with ClusterRuns(cluster, None, "cache", None, said.append) as runs:
        runs.start(RUN, tmp_path)
        assert runs.wait() == [(RUN, {"readouts": {}})]
    assert cluster.started == [RUN.name] * 2
    assert said == [f"{RUN.name}: its actor was killed, and another one goes on with the run: killed"]
    assert cluster.killed == 2, "an actor whose run has ended leaves its place to another"


def test_a_run_whose_actors_are_killed_again_and_again_has_failed(tmp_path):
    said, cluster = [], Cluster(*[RayError("no memory")] * 9)
    with ClusterRuns(cluster, None, "cache", None, said.append) as runs:
        runs.start(RUN, tmp_path)
        assert runs.wait() == [(RUN, None)]
    assert len(cluster.started) == 5
    assert "was killed 5 times" in said[-1]


def test_a_machine_that_does_not_see_the_folder_ends_the_study_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.study.cluster_runs._SEEN_S", 0)
    from pipelines.study.cluster_runs import _require

    with pytest.raises(ArmadaError, match=r"does not see .*; expected --out in a folder that all") as seen:
        _require(tmp_path)
    cluster = Cluster(RayTaskError(seen.value))
    with ClusterRuns(cluster, None, "cache", None, lambda line: None) as runs:
        runs.start(RUN, tmp_path)
        with pytest.raises(ArmadaError, match="does not see"):
            runs.wait()


def test_options_that_contradict_each_other_are_refused(tmp_path):
    study = ("study", tmp_path / "none.yaml", "--out", tmp_path / "out")
    with pytest.raises(ArmadaError, match="expected --jobs N or --ray ADDRESS, found both"):
        in_process(*study, "--jobs", 2, "--ray", "auto")
    with pytest.raises(ArmadaError, match="--ray-options: expected --ray ADDRESS beside it"):
        in_process(*study, "--ray-options", "num_gpus=1")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_study_on_ray_with_an_actor_and_the_coordinator_killed_has_the_results_of_jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write_study(tmp_path, readouts={"probe": True})
    jobs = armada("study", path, "--out", tmp_path / "jobs", "--jobs", os.cpu_count())
    assert jobs.returncode == 0, jobs.stderr
    found = run_with_ray("tests.pipelines.study.cluster.ray_study", path, tmp_path / "out")
    assert found["code"] == 0, found["errors"]
    assert "its actor was killed, and another one goes on" in found["errors"][0]
    assert "Traceback" not in "".join(found["errors"])
    assert found["is_untouched"], "a finished run is not done again"
    assert found["report"]["finished"] == 6
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("out", "jobs")]
    assert results[0]["measured"] == results[1]["measured"]
    assert (tmp_path / "out" / "report.md").read_text() == (tmp_path / "jobs" / "report.md").read_text()
