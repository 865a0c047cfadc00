"""The runs of a study: every arm with every seed, each in a process of its own, several at once with --jobs, or on a
Ray cluster (cluster_runs.py).

A study that was killed resumes: a finished run is never repeated, unless its part of the study file has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.study.building import build_cache, study_cache
from pipelines.study.checks import check_arms
from pipelines.study.cluster_runs import ClusterRuns
from pipelines.study.config import Study, StudyFile
from pipelines.study.inputs import input_digests, study_splits
from pipelines.study.ledger.digests import commits_of
from pipelines.study.ledger.reruns import open_study
from pipelines.study.run import Run, enter_process, read_outcome, run_one
from pipelines.study.run_folders import finished_outcomes, open_folder, settle_folders
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill import Splits
    from teacher_cache import RayCluster

# What a run imports, which takes seconds; its process is forked from one that has it.
HEAVY = [
    *("torch", "transformers.optimization", "transformers.models.bert.modeling_bert", "sklearn.linear_model"),
    *("accelerate", "peft", "distill.training.trainer", "distill.training.pretraining", "distill.students.task_model"),
    *("distill.students.export", "distill.objective.crossfit_store", "pipelines.run.training"),
    *("pipelines.pretraining.masked_words", "teacher_cache.teachers.pictogram", "teacher_cache.encoders.efficientnet"),
]


class Runs(Protocol):
    """Where the runs of a study are done."""

    def room(self) -> int:
        """Return how many runs may be in progress at once."""
        ...

    def start(self, run: Run, folder: Path) -> None:
        """Start a run in its folder."""
        ...

    def wait(self) -> list[tuple[Run, dict[str, Any] | None]]:
        """Wait until a run has ended, and return those that have, each with its outcome; None if it failed."""
        ...


class LocalRuns:
    """Runs as processes of this machine, `jobs` at once."""

    def __init__(self, study: Study, cache: str, splits: Splits, jobs: int, keeps_students: bool) -> None:
        self._of_all, self._jobs, self._keeps_students = (study, cache, splits), jobs, keeps_students
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(HEAVY)
        self._running: list[tuple[Run, Path, BaseProcess]] = []

    def room(self) -> int:
        """Return the number of jobs."""
        return self._jobs

    def start(self, run: Run, folder: Path) -> None:
        """Fork a process for a run."""
        study, cache, splits = self._of_all
        threads = max(1, (os.cpu_count() or 1) // (2 * self._jobs))  # half of the cores are faster than all of them
        process = self._context.Process(
            target=_run_in_process,
            args=(study, run, folder, cache, splits, threads, self._keeps_students),
            name=run.name,
        )
        process.start()
        self._running.append((run, folder, process))

    def wait(self) -> list[tuple[Run, dict[str, Any] | None]]:
        """Wait until a process has ended; a run without an outcome then has failed."""
        connection.wait([process.sentinel for _, _, process in self._running])
        ended = [one for one in self._running if one[2].exitcode is not None]
        self._running = [one for one in self._running if one not in ended]
        return [(run, read_outcome(folder)) for run, folder, _ in ended]


def runs_of(study: Study) -> list[Run]:
    """Return all runs of a study, seed by seed, so that a study stopped early has about equally many seeds per arm."""
    few = study.readouts.few_shot
    runs = []
    for seed in study.seeds:
        if study.readouts.finetune or study.readouts.probe:
            runs += [Run("finetune", arm, seed) for arm in study.arms if arm not in study.masked_arms]
        if few:
            runs += [Run("few_shot", arm, seed) for arm in few.arms]
    return runs


def run_study(
    path: Path,
    out: Path,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
    cache_url: str | None = None,
    name: str | None = None,
    cluster: RayCluster | None = None,
    *,
    keeps_students: bool = True,
) -> bool:
    """Run the unfinished runs of a study, and return whether all its runs are finished now.

    `path` is a study file, or the folder or the results.json of a study that is done again, of joined results
    the study called `name`. With `cache_url`, features are read from there, and no teacher is called. `say` receives
    one line of progress at a time. With a `cluster`, each run is an actor of it, as many at once as there is room for;
    all its machines see `out`. Without `keeps_students`, the weights of a run's student are removed when its outcome
    is written.

    Raise ArmadaError if the file is invalid, a student does not fit the task or another process runs this study,
    BudgetError if `max_calls` is reached before every picture is drawn.
    """
    from filelock import FileLock, Timeout

    file = open_study(path, cache_url, name)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ArmadaError(
            f"{out}: another armada study is running here; wait until it ends, or choose another --out"
        ) from None
    with lock:
        splits = study_splits(file.study)  # read once for all runs
        for note in [*(file.study.made.said if file.study.made else ()), *splits.notes]:
            say(f"{file.study.task_name}: {note}")
        if unnamed := file.study.arms_without_objective:
            say(f"no objective is named of {', '.join(unnamed)}: armada, as in every study file before 2026-12")
        cache, runs = study_cache(file.study, out), runs_of(file.study)
        if len(finished_outcomes(file.study, runs, out)) < len(runs):
            check_arms(file.study, splits, out, cache)
        for run in settle_folders(file.study, runs, out):
            say(f"{run.name}: the study file says something else of this run now; the former one is in {out}/replaced")
        _record_file(file, out)
        if not file.study.cache:
            build_cache(file, splits.train.prompts, out, say)
        if len(finished_outcomes(file.study, runs, out)) < len(runs):
            _record_file(file, out, commits_of(cache))
        finished = finished_outcomes(file.study, runs, out)
        left = [run for run in runs if run not in finished]
        with ExitStack() as stack:
            where: Runs = LocalRuns(file.study, cache, splits, jobs, keeps_students)
            if cluster and left:
                where = stack.enter_context(ClusterRuns(cluster, file.study, cache, splits, say, keeps_students))
            at_once = where.room()
            say(f"{len(runs)} runs: {len(runs) - len(left)} finished, {len(left)} to do, {at_once} at once")
            return _run_all(file, left, out, where, say)


def _record_file(file: StudyFile, out: Path, commits: list[str] | None = None) -> None:
    """Keep the present text of the file, and every text that it has had by its digest, in their order; the cache that
    is read instead of the one of the file; and the commits of the cache, or those that are recorded."""
    from pipelines.files import read_json, write_json

    path = out / "study.json"
    state: dict[str, Any] = {"digests": []}
    if path.exists():
        state = read_json(path, "armada study", digests=list)
    digests = [digest for digest in state["digests"] if digest != file.digest]
    texts = {**state.get("texts", {}), file.digest: file.text}
    write_json(
        path,
        {
            "digests": [*digests, file.digest],
            "text": file.text,
            "texts": texts,
            "file": str(file.path.resolve()),
            "inputs": input_digests(file.study),
            "read_from": file.read_from,
            "commits": state.get("commits") if commits is None else commits,
        },
    )


def _run_all(file: StudyFile, left: list[Run], out: Path, where: Runs, say: Callable[[str], None]) -> bool:
    """Do the runs that are left, and return whether none of them failed."""
    total, done, begun = len(left), 0, time.monotonic()
    started: dict[Run, float] = {}
    has_failed = False
    waiting = list(left)
    while waiting or started:
        while waiting and len(started) < where.room():
            run = waiting.pop(0)
            where.start(run, open_folder(file, run, out))
            started[run] = time.monotonic()
        for run, outcome in where.wait():
            seconds = time.monotonic() - started.pop(run)
            done += 1
            if outcome is None:
                has_failed = True
                say(f"{run.name}: failed; its log is {out / 'runs' / run.name / 'log.txt'}")
                continue
            rest = (time.monotonic() - begun) / done * (total - done)
            found = ", ".join(
                f"{name} {next(iter(values.values())):.3f}" for name, values in outcome["readouts"].items()
            )
            say(f"[{done}/{total}] {run.name}: {found} ({seconds:.0f} s; about {rest / 60:.0f} min left)")
    return not has_failed


def _run_in_process(
    study: Study, run: Run, folder: Path, cache: str, splits: Splits, threads: int, keeps_students: bool
) -> None:
    """Do one run; the main function of its process.

    The process ends with the study's process, so that a restarted study never has two processes for one run.
    """
    import gc
    import threading

    gc.freeze()  # what was imported before the fork is never collected, nor copied for it
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    enter_process(folder, threads)
    run_one(study, run, folder, cache, splits, keeps_students=keeps_students)
