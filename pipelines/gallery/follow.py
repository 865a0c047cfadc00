"""What the gallery's live page shows: how the builds go, and the newest pictures, of the spool or of the last commit.

However many pages ask, the cache and the spool are looked at once a second at most.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from pipelines.gallery.catalogue import KINDS
from pipelines.night.progress import Progress, Watcher
from teacher_cache import ArmadaError, Cache, as_png, picture_suffix, read_picture, waiting_picture

NEWEST = 12
_EVERY_S = 1.0
_REMEMBERED = 4 * NEWEST
_PLACE = ["image_key", "image_sha256", "prompt", "sample", "offset", "bytes"]


@dataclass(frozen=True)
class NewPicture:
    """One of the newest pictures."""

    image_key: str
    prompt: str
    sample: int
    is_sealed: bool


@dataclass(frozen=True)
class LiveState:
    """How it goes, and the newest pictures."""

    progress: Progress
    pictures: tuple[NewPicture, ...]


class Follower:
    """Follows one cache; threads may share it."""

    def __init__(self, cache: Cache) -> None:
        self._cache, self._watcher = cache, Watcher(cache)
        self._lock = threading.Lock()
        self._state: LiveState | None = None
        self._looked = 0.0
        self._waiting: dict[str, bytes] = {}  # pictures that were in the spool when they were shown, by image key
        self._rows: dict[str, dict[str, Any]] = {}  # of the last commit with pictures, by image key
        self._shard = ""  # from which they are

    def state(self) -> LiveState:
        """Return how it goes. Raise CacheError if the cache can't be listed at the first time."""
        with self._lock:
            if self._state is None or time.monotonic() - self._looked >= _EVERY_S:
                progress = self._watcher.look(NEWEST)
                self._state = LiveState(progress, self._newest(progress))
                self._looked = time.monotonic()
            return self._state

    def picture(self, key: str) -> tuple[bytes, str]:
        """Return one of the newest pictures and its kind, a value of KINDS. Raise ArmadaError if it is none of them."""
        data, row = self._waiting.get(key), self._rows.get(key)
        if data is None:
            if row is None:
                raise ArmadaError(f"{key[:80]!r}: none of the newest pictures has this image key")
            data = read_picture(self._cache, row)
        suffix = picture_suffix(data)
        return (data, KINDS[suffix]) if suffix in KINDS else (as_png(data), "png")

    def _newest(self, progress: Progress) -> tuple[NewPicture, ...]:
        waiting = [
            NewPicture(one.image_key, one.prompt, one.sample, False)
            for one in progress.newest
            if self._remember(one.image_key)
        ]
        if len(waiting) < NEWEST:
            self._read_last_commit()
            known = {one.image_key for one in waiting}
            sealed = (row for key, row in self._rows.items() if key not in known)
            waiting += [NewPicture(r["image_key"], r["prompt"] or "", int(r["sample"] or 0), True) for r in sealed]
        return tuple(waiting[:NEWEST])

    def _remember(self, key: str) -> bool:
        """Keep a picture of the spool, from which it goes when it is sealed. Return whether it is at hand."""
        if key not in self._waiting:
            data = waiting_picture(self._cache, key)
            if data is None:
                return False
            self._waiting[key] = data
            while len(self._waiting) > _REMEMBERED:
                del self._waiting[next(iter(self._waiting))]
        return True

    def _read_last_commit(self) -> None:
        """Read where some pictures of the newest commit are; what can't be read now is not shown."""
        live = {shard.path: shard for shard in self._cache.shards("images/")}
        commits = sorted(self._cache.commits(), key=lambda commit: commit.at, reverse=True)
        path = next((shard.path for one in commits for shard in one.added if shard.path in live), "")
        if not path or path == self._shard:
            return
        try:
            table = self._cache.table(live[path], _PLACE).slice(0, NEWEST)
        except ArmadaError:
            return
        self._rows = {row["image_key"]: {**row, "path": path} for row in table.to_pylist()}
        self._shard = path
