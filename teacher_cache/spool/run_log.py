"""The log of runs: what each build of this host on a cache did, minute by minute, for those who watch or look back.

It is a file of its own beside the spool, `runs.sqlite`, so that watching never touches what was paid for. Nothing in
it is needed: a build that can't write it goes on, and a damaged one is removed. A build adds a beat every two seconds,
so that a killed one is known by its silence.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from teacher_cache.format.sources import Source
from teacher_cache.spool.spool import Spool

FILE = "runs.sqlite"
BEAT_S = 2.0
SILENT_S = 20.0  # a run without a beat for so long has ended: it was killed
_KEPT = 500  # runs


@dataclass(frozen=True)
class Run:
    """One build. Times are seconds since 1970; `drawn` to `cost_usd` are what it did so far.

    `calls` and `cost_usd` are by what the spool's ledger of the teacher grew meanwhile; builds that run at the same
    time on one host share it.
    """

    build: str  # its random name
    teacher: str  # names of the folders
    encoder: str
    prompts: str  # where the prompts came from
    started: float
    requested: int  # pictures
    at_hand: int  # of them in the cache when it began
    planned: int  # calls to make
    max_calls: int | None = None
    budget_usd: float | None = None
    seen: float = 0.0  # its last beat
    ended: float | None = None
    stopped: str = ""  # "", "budget", "interrupted" or "error"
    drawn: int = 0
    failed: int = 0
    calls: int = 0
    cost_usd: float = 0.0

    def is_running(self, now: float) -> bool:
        """Return whether the build still runs, as far as its beats tell."""
        return self.ended is None and now - self.seen < SILENT_S

    @property
    def seconds(self) -> float:
        """How long it ran, or has been running."""
        return max(0.0, (self.ended or self.seen) - self.started)


@dataclass(frozen=True)
class Minute:
    """What one build did in one minute of drawing; `minute` counts minutes since 1970."""

    build: str
    minute: int
    drawn: int
    failed: int
    calls: int
    cost_usd: float


@dataclass(frozen=True)
class Counts:
    """What a run has done so far."""

    drawn: int
    failed: int
    calls: int
    cost_usd: float


_NAMES = [field.name for field in fields(Run)]
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs({", ".join(_NAMES)}, PRIMARY KEY(build));
CREATE TABLE IF NOT EXISTS minutes(build, minute INTEGER, drawn, failed, calls, cost_usd, PRIMARY KEY(build, minute));
"""


class RunLog:
    """Writes one run into the log of a workspace; use it as a context manager, around the build.

    `count` returns what was done since the build began. The run's end is "error" if the block raises, else `stopped`,
    which the build sets.
    """

    def __init__(self, folder: Path, run: Run, clock: Callable[[], float] = time.time) -> None:
        self._file, self._run, self._clock = folder / FILE, run, clock
        self._count: Callable[[], Counts] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="armada-run-log", daemon=True)
        self.stopped = ""

    def __enter__(self) -> RunLog:
        with contextlib.suppress(sqlite3.Error, OSError):
            _prune(self._file)
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        self._beat(ended=True, stopped="error" if kind else self.stopped)

    @contextmanager
    def drawing(self, count: Callable[[], Counts]) -> Iterator[None]:
        """Count minute by minute while the block draws."""
        self._count = count
        self._beat()
        try:
            yield
        finally:
            self._beat()
            self._count = None

    def _beats(self) -> None:
        while not self._over.wait(BEAT_S):
            self._beat()

    def _beat(self, *, ended: bool = False, stopped: str = "") -> None:
        """Write what is known now. A log that can't be written is no reason to stop."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError, RuntimeError):
            now, count = self._clock(), self._count
            counts = count() if count else None
            if counts:
                self._run = replace(self._run, **vars(counts))
            self._run = replace(self._run, seen=now, ended=now if ended else None, stopped=stopped)
            with _opened(self._file) as database:
                places = ", ".join("?" * len(_NAMES))
                database.execute(f"INSERT OR REPLACE INTO runs VALUES ({places})", astuple(self._run))
                if counts:
                    minute = (self._run.build, int(now // 60), *astuple(counts))
                    database.execute("INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?)", minute)


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open the log for one transaction; a file that is none is removed, and the next beat makes another."""
    with contextlib.closing(sqlite3.connect(file, timeout=5)) as database:
        try:
            database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; {_SCHEMA}")
            with database:
                yield database
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            remove_log(file)
            raise


def remove_log(file: Path) -> None:
    """Remove a log with the files that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _prune(file: Path) -> None:
    with _opened(file) as database:
        database.execute(
            f"DELETE FROM runs WHERE build NOT IN (SELECT build FROM runs ORDER BY started DESC LIMIT {_KEPT})"
        )
        database.execute("DELETE FROM minutes WHERE build NOT IN (SELECT build FROM runs)")


def read_runs(folder: Path) -> list[Run]:
    """Return the runs in the log of a workspace, the first one first; none if there is no log that can be read."""
    rows = _read(folder / FILE, f"SELECT {', '.join(_NAMES)} FROM runs ORDER BY started, build")
    return [Run(*row) for row in rows]


def read_minutes(folder: Path, since: float = 0.0) -> list[Minute]:
    """Return the minutes of the runs in a workspace's log that were seen `since` then (seconds since 1970), in order,
    each with what was done in it."""
    names = ("drawn", "failed", "calls")
    grown = ", ".join(f"{name} - coalesce(lag({name}) OVER one, 0)" for name in names)
    grown += ", round(cost_usd - coalesce(lag(cost_usd) OVER one, 0), 9)"
    query = (
        f"SELECT build, minute, {grown} FROM minutes WHERE build IN (SELECT build FROM runs WHERE seen >= ?)"
        " WINDOW one AS (PARTITION BY build ORDER BY minute) ORDER BY minute, build"
    )
    return [Minute(*row) for row in _read(folder / FILE, query, since)]


@contextmanager
def open_to_read(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file that others may be writing, without leaving a trace beside it."""
    is_quiet = not file.with_name(f"{file.name}-wal").exists()  # nobody has it open
    address = f"{file.as_uri()}?mode=ro{'&immutable=1' if is_quiet else ''}"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=5)) as database:
        yield database


def _read(file: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    if not file.exists():
        return []
    try:
        with open_to_read(file) as database:
            return database.execute(query, values).fetchall()
    except (sqlite3.Error, OSError):
        return []


class Counting(Protocol):
    """A drawing, however it draws, as the log of runs sees it."""

    spool: Spool
    teacher_source: Source
    drawn: int
    failed: dict[str, int]


def counter(drawing: Counting) -> Callable[[], Counts]:
    """Return a function that returns what a drawing has done since now."""
    spool, teacher = drawing.spool, drawing.teacher_source.digest
    calls, usd = spool.spent(teacher)

    def count() -> Counts:
        now_calls, now_usd = spool.spent(teacher)
        failed = sum(dict(drawing.failed).values())
        return Counts(drawing.drawn, failed, now_calls - calls, round(now_usd - usd, 9))

    return count
