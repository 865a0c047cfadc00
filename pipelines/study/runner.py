"""A study's runs: arms by seeds, one process each, several at once if asked. Killed and started again it does what is
left: a finished run is never done twice.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from pipelines.study.config import Study, StudyFile, read_study
from pipelines.study.run import Run, read_outcome, run_one, study_splits
from teacher_cache import ArmadaError

HEAVY = ["torch", "transformers", "sklearn.linear_model", "distill.training.trainer", "pipelines.run.training"]


@dataclass(frozen=True)
class Started:
    """A process at its run."""

    run: Run
    process: Any
    at: float  # of the monotonic clock


def runs_of(study: Study) -> list[Run]:
    """All runs of a study, seed by seed: stopped early, every arm has had as many seeds, but for one."""
    few = study.readouts.few_shot
    runs = []
    for seed in study.seeds:
        if study.readouts.finetune or study.readouts.probe:
            runs += [Run("finetune", arm, seed) for arm in study.arms]
        if few:
            runs += [Run("few_shot", arm, seed) for arm in few.arms]
    return runs


def run_study(path: Path, out: Path, jobs: int = 1, say: Callable[[str], None] = lambda line: None) -> bool:
    """Do what is left of a study; whether all of its runs are finished. Raises ArmadaError for a file that doesn't fit,
    or where another process is at this study."""
    from filelock import FileLock, Timeout

    file = read_study(path)
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ArmadaError(
            f"{out}: another armada study is at work here; wait for it, or choose another --out"
        ) from None
    with lock:
        _note(file, out)
        splits = study_splits(file.study)  # read once, handed to every run
        cache = file.study.cache or str(out / "cache")
        if not file.study.cache:
            _build(file, splits.train.prompts, cache, say)
        return _run_all(file.study, splits, out, cache, jobs, say)


def _note(file: StudyFile, out: Path) -> None:
    """Keep the file as it was when the study began, and every digest that it has had since."""
    import json

    from pipelines.files import write_json

    path = out / "study.json"
    noted: dict[str, Any] = {"digests": [], "text": file.text}
    if path.exists():
        noted = json.loads(path.read_text("utf-8"))
    if file.digest not in noted["digests"]:
        noted["digests"].append(file.digest)
    write_json(path, {**noted, "file": str(file.path.resolve())})


def _build(file: StudyFile, prompts: list[str], cache: str, say: Callable[[str], None]) -> None:
    """The pictures and features that the arms need, in the study's own cache. Raises BudgetError where the study may
    not ask for all of them."""
    from distill import find_control
    from teacher_cache import BudgetError, BuildOptions, Cache, build, open_encoder, open_teacher

    study = file.study
    options = BuildOptions(samples=study.samples, max_calls=study.max_calls)
    controls = [find_control(arm.control) for arm in study.arms.values()]
    for encoder in dict.fromkeys(
        [study.encoder, *(control.encoder for control in controls if control and control.encoder)]
    ):
        report = build(Cache(cache, create=True), prompts, open_teacher(study.teacher), open_encoder(encoder), options)
        say(f"cache: {len(prompts)} rows, encoder {encoder}, {report.calls} calls now, {report.calls_total} in all")
        if report.stopped == "budget":
            raise BudgetError(
                f"{file.path}: max_calls: {study.max_calls} calls are made, and pictures are missing still; nothing is "
                "lost: raise it, and run the same command again"
            )


def _run_all(study: Study, splits: Any, out: Path, cache: str, jobs: int, say: Callable[[str], None]) -> bool:
    runs = runs_of(study)
    left = [run for run in runs if read_outcome(out / "runs" / run.name) is None]
    total, seconds, begun = len(left), [], time.monotonic()
    say(f"{len(runs)} runs: {len(runs) - total} finished, {total} to do, {jobs} at once")
    context = get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    busy: list[Started] = []
    failed = []
    while left or busy:
        while left and len(busy) < jobs:
            run = left.pop(0)
            folder = out / "runs" / run.name
            folder.mkdir(parents=True, exist_ok=True)
            threads = max(1, (os.cpu_count() or 1) // (2 * jobs))  # a full machine is slower than half of one
            process = context.Process(target=_work, args=(study, run, folder, cache, splits, threads), name=run.name)
            process.start()
            busy.append(Started(run, process, time.monotonic()))
        connection.wait([started.process.sentinel for started in busy])
        for started in [started for started in busy if started.process.exitcode is not None]:
            busy.remove(started)
            outcome = read_outcome(out / "runs" / started.run.name)
            seconds.append(time.monotonic() - started.at)
            if outcome is None:
                failed.append(started.run)
                say(f"{started.run.name}: failed; its log is {out / 'runs' / started.run.name / 'log.txt'}")
                continue
            done = total - len(left) - len(busy)
            rest = (time.monotonic() - begun) / done * (total - done)
            found = ", ".join(
                f"{name} {next(iter(values.values())):.3f}" for name, values in outcome["readouts"].items()
            )
            say(f"[{done}/{total}] {started.run.name}: {found} ({seconds[-1]:.0f} s; about {rest / 60:.0f} min left)")
    return not failed


def _work(study: Study, run: Run, folder: Path, cache: str, splits: Any, threads: int) -> None:
    """A process's whole life. It ends with the study's process, lest two be at one run after a kill."""
    import threading

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
