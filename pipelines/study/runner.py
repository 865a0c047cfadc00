"""The runs of a study: every arm with every seed, each in a process of its own, several at once with --jobs.

A study that was killed resumes: a finished run is never repeated, unless its part of the study file has changed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.study.building import build_cache, study_cache
from pipelines.study.checks import check_arms
from pipelines.study.config import Study, StudyFile
from pipelines.study.inputs import input_digests, study_splits
from pipelines.study.ledger.digests import commits_of
from pipelines.study.ledger.reruns import open_study
from pipelines.study.run import Run, read_outcome, run_one
from pipelines.study.run_folders import finished_outcomes, open_folder, settle_folders
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill import Splits

# What a run imports, which takes seconds; its process is forked from one that has it.
HEAVY = [
    *("torch", "transformers.optimization", "transformers.models.bert.modeling_bert", "sklearn.linear_model"),
    *("accelerate", "peft", "distill.training.trainer", "distill.training.pretraining", "distill.students.task_model"),
    *("distill.students.export", "distill.objective.crossfit_store", "pipelines.run.training"),
    *("pipelines.pretraining.masked_words", "teacher_cache.teachers.pictogram", "teacher_cache.encoders.efficientnet"),
]


@dataclass(frozen=True)
class Started:
    """A run in progress, and its process."""

    run: Run
    process: BaseProcess
    at: float  # monotonic clock, seconds


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
) -> bool:
    """Run the unfinished runs of a study, and return whether all its runs are finished now.

    `path` is a study file, or the folder or the results.json of a study that is done again, of joined results
    the study called `name`. With `cache_url`, features are read from there, and no teacher is called. `say` receives
    one line of progress at a time.

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
        return _run_all(file, splits, out, cache, jobs, say)


def _record_file(file: StudyFile, out: Path, commits: list[str] | None = None) -> None:
    """Keep the present text of the file, and every text that it has had by its digest, in their order; the cache that
    is read instead of the one of the file; and the commits of the cache, or those that are recorded."""
    import json

    from pipelines.files import write_json

    path = out / "study.json"
    state: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {"digests": []}
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


def _run_all(file: StudyFile, splits: Splits, out: Path, cache: str, jobs: int, say: Callable[[str], None]) -> bool:
    study = file.study
    runs = runs_of(study)
    finished = finished_outcomes(study, runs, out)
    left = [run for run in runs if run not in finished]
    total, seconds, begun = len(left), [], time.monotonic()
    say(f"{len(runs)} runs: {len(runs) - total} finished, {total} to do, {jobs} at once")
    context = get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    running: list[Started] = []
    failed = []
    while left or running:
        while left and len(running) < jobs:
            run = left.pop(0)
            folder = open_folder(file, run, out)
            threads = max(1, (os.cpu_count() or 1) // (2 * jobs))  # half of the cores are faster than all of them
            process = context.Process(
                target=_run_in_process, args=(study, run, folder, cache, splits, threads), name=run.name
            )
            process.start()
            running.append(Started(run, process, time.monotonic()))
        connection.wait([started.process.sentinel for started in running])
        for started in [started for started in running if started.process.exitcode is not None]:
            running.remove(started)
            outcome = read_outcome(out / "runs" / started.run.name)
            seconds.append(time.monotonic() - started.at)
            if outcome is None:
                failed.append(started.run)
                say(f"{started.run.name}: failed; its log is {out / 'runs' / started.run.name / 'log.txt'}")
                continue
            done = total - len(left) - len(running)
            rest = (time.monotonic() - begun) / done * (total - done)
            found = ", ".join(
                f"{name} {next(iter(values.values())):.3f}" for name, values in outcome["readouts"].items()
            )
            say(f"[{done}/{total}] {started.run.name}: {found} ({seconds[-1]:.0f} s; about {rest / 60:.0f} min left)")
    return not failed


def _run_in_process(study: Study, run: Run, folder: Path, cache: str, splits: Splits, threads: int) -> None:
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
    log = (folder / "log.txt").open("a", encoding="utf-8", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    import torch

    torch.set_num_threads(threads)
    run_one(study, run, folder, cache, splits)
