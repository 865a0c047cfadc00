"""What others see of the work in progress on a cache, on this host: its runs, and what waits in the spool.

Nothing is written, and no lock is taken: it may be looked at every second while a build runs.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teacher_cache.spool.run_log import Minute, Run, open_to_read, read_minutes, read_runs
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.workspace import find_workspace


@dataclass(frozen=True)
class WaitingPicture:
    """A picture that is drawn and not sealed yet."""

    image_key: str
    teacher: str  # the teacher's digest
    prompt: str
    sample: int


@dataclass(frozen=True)
class SpoolView:
    """The work in progress of this host on a cache. Counts are by the digest of the teacher; `failed` by reason too."""

    runs: tuple[Run, ...] = ()
    minutes: tuple[Minute, ...] = ()
    drawn: Mapping[str, int] = field(default_factory=dict)  # not sealed yet
    failed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    in_flight: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, tuple[int, float]] = field(default_factory=dict)  # calls and dollars of all teachers
    newest: tuple[WaitingPicture, ...] = ()  # the newest one first
    token: str = ""  # of this host's ledger


def view_spool(cache: Cache, newest: int = 0, since: float = 0.0) -> SpoolView:
    """Return what is in progress on a cache on this host now, with the `newest` pictures that are not sealed yet, and
    the minutes of the runs that were seen `since` then (seconds since 1970)."""
    workspace = _workspace(cache)
    if workspace is None:
        return SpoolView()
    folder, token = workspace
    runs, minutes = tuple(read_runs(folder)), tuple(read_minutes(folder, since))
    drawn: dict[str, int] = {}
    failed: dict[str, dict[str, int]] = {}
    flying: dict[str, int] = {}
    spent: dict[str, tuple[int, float]] = {}
    pictures: tuple[WaitingPicture, ...] = ()
    with contextlib.suppress(sqlite3.Error), open_to_read(folder / "spool.sqlite") as database:
        query = "SELECT teacher, state, coalesce(reason, ''), count(*) FROM rows GROUP BY teacher, state, reason"
        for teacher, state, reason, count in database.execute(query):
            if state == "failed":
                failed.setdefault(teacher, {})[reason] = count
            else:
                counts = drawn if state == "drawn" else flying
                counts[teacher] = counts.get(teacher, 0) + count
        for teacher, calls, usd in database.execute("SELECT teacher, calls, cost_usd FROM spent"):
            with contextlib.suppress(ValueError, TypeError, OverflowError):  # damaged: the build will say so
                spent[teacher] = (int(calls), max(0.0, round(float(usd), 9)))
        query = "SELECT image_key, row FROM pictures ORDER BY rowid DESC LIMIT ?"
        pictures = tuple(_waiting(key, text) for key, text in database.execute(query, (newest,)))
    return SpoolView(runs, minutes, drawn, failed, flying, spent, pictures, token)


def waiting_picture(cache: Cache, image_key: str) -> bytes | None:
    """Return a picture that is drawn on this host and not sealed yet; None if there is none with this key."""
    workspace = _workspace(cache)
    if workspace is not None:
        with contextlib.suppress(sqlite3.Error), open_to_read(workspace[0] / "spool.sqlite") as database:
            row = database.execute("SELECT data FROM pictures WHERE image_key = ?", (image_key,)).fetchone()
            return bytes(row[0]) if row else None
    return None


def _workspace(cache: Cache) -> tuple[Path, str] | None:
    found = find_workspace(
        cache.store, lambda: frozenset(record.ledger for commit in cache.commits() for record in commit.spent)
    )
    return (found.folder, found.token) if found else None


def _waiting(key: str, text: str) -> WaitingPicture:
    try:
        row: dict[str, Any] = json.loads(text)
        return WaitingPicture(key, str(row.get("teacher", "")), str(row.get("prompt", "")), int(row.get("sample") or 0))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):  # damaged: the build will say so
        return WaitingPicture(str(key), "", "", 0)
