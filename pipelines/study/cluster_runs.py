"""The runs of a study on a Ray cluster: each is an actor of its own, in a folder that all machines see.

A run whose actor or machine is killed is started again, and goes on from its last checkpoint. The actors end with the
study; the same command does what is left.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.study.config import Study
from pipelines.study.run import Run, enter_process, read_outcome, run_one
from pipelines.study.run_folders import REQUEST
from teacher_cache import ArmadaError, settle_in

if TYPE_CHECKING:
    from distill import Splits
    from teacher_cache import RayCluster

_DEATHS = 5  # of one run's actors
_LOCKED_S = 600.0  # that the actor of a study that was killed may take to end
_SEEN_S = 60.0  # that a shared folder may take to show on another machine what was written on this one


@dataclass(frozen=True)
class _Started:
    run: Run
    folder: Path
    actor: Any
    deaths: int  # of its actors so far


class ClusterRuns:
    """Runs as actors, as many at once as the cluster has room for; more when machines join. A context manager."""

    def __init__(
        self,
        cluster: RayCluster,
        study: Study,
        cache: str,
        splits: Splits,
        say: Callable[[str], None],
        keeps_students: bool = True,
    ) -> None:
        self._cluster, self._say = cluster, say
        self._of_all = cluster.ray.put((study, cache, splits, keeps_students))  # sent to each machine once
        self._threads = max(1, int(cluster.options.get("num_cpus", 1)))
        self._running: dict[Any, _Started] = {}  # by the call whose end is waited for

    def __enter__(self) -> ClusterRuns:
        return self

    def __exit__(self, *_: object) -> None:
        for started in self._running.values():
            self._end(started)

    def room(self) -> int:
        """Return how many actors fit on the machines that are there now; one at least, which waits for a machine."""
        return max(1, self._cluster.room(1 << 20))

    def start(self, run: Run, folder: Path, deaths: int = 0) -> None:
        """Start an actor for a run."""
        actor = self._cluster.actor(_Actor, os.getcwd())
        call = actor.do.remote(self._of_all, run, str(folder.resolve()), self._threads)
        self._running[call] = _Started(run, folder, actor, deaths)

    def wait(self) -> list[tuple[Run, dict[str, Any] | None]]:
        """Wait until a run has ended. Raises ArmadaError if a machine can't do runs at all."""
        while True:
            ready, _ = self._cluster.ray.wait(list(self._running), num_returns=1, timeout=1)
            ended = [self._outcome(call) for call in ready]
            if any(ended):
                return [one for one in ended if one]

    def _outcome(self, call: Any) -> tuple[Run, dict[str, Any] | None] | None:
        """Return a run that has ended, and its outcome; None if its actor was killed, and another one has begun."""
        started, errors = self._running.pop(call), self._cluster.ray.exceptions
        try:
            outcome: dict[str, Any] | None = self._cluster.ray.get(call)
            self._end(started)
            return started.run, outcome
        except errors.RayTaskError as error:
            self._end(started)
            if isinstance(error.cause, ArmadaError):
                raise ArmadaError(str(error.cause)) from None
            raise ArmadaError(
                f"--ray: {started.run.name} can't be started on a machine of the cluster: "
                f"{type(error.cause).__name__}: {error.cause}"
            ) from None
        except errors.RayError as error:  # the actor is dead, or its machine
            self._end(started)
            lines = str(error).strip().splitlines()
            reason = lines[-1 if "creation task" in lines[0] else 0].strip()  # the last line of a traceback says what
            if started.deaths + 1 == _DEATHS:
                self._say(f"{started.run.name}: its actor was killed {_DEATHS} times, perhaps for its memory: {reason}")
                return started.run, None
            self._say(f"{started.run.name}: its actor was killed, and another one goes on with the run: {reason}")
            self.start(started.run, started.folder, started.deaths + 1)
            return None

    def _end(self, started: _Started) -> None:
        with contextlib.suppress(Exception):  # it may be dead, or the cluster gone
            self._cluster.ray.kill(started.actor)


class _Actor:
    """The process of one run."""

    def __init__(self, folder: str) -> None:
        settle_in(folder)

    def do(self, of_all: tuple[Study, str, Splits, bool], run: Run, name: str, threads: int) -> dict[str, Any] | None:
        """Do a run in its folder, and return its outcome; None if it failed, as its log says."""
        from filelock import FileLock

        folder = Path(name)
        _require(folder)
        try:
            enter_process(folder, threads)
            study, cache, splits, keeps_students = of_all
            with FileLock(folder / ".lock", timeout=_LOCKED_S):
                return read_outcome(folder) or run_one(study, run, folder, cache, splits, keeps_students=keeps_students)
        except Exception:
            traceback.print_exc()
            return None


def _require(folder: Path) -> None:
    """Raise ArmadaError unless this machine sees a run's folder as the study has made it."""
    until = time.monotonic() + _SEEN_S
    while not (folder / REQUEST).exists():
        if time.monotonic() > until:
            raise ArmadaError(
                f"--ray: the machine {os.uname().nodename} of the cluster does not see {folder}; expected --out in a "
                "folder that all machines share"
            )
        time.sleep(0.5)
