"""The calls of one store to the Hub: files that are published together are sent together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from teacher_cache.files import drafts
from teacher_cache.files.hub import DATASETS, HubPlace, refusal

Files = Sequence[tuple[Path, str]]  # local paths, each with its name in the store


class HubCalls:
    """Sends files by `send(files, message)`, at once or, inside `together`, in one call when that ends.

    Files of one thread wait together; another thread's are sent on their own.
    """

    def __init__(self, where: str, place: HubPlace, send: Callable[[Files, str], None]) -> None:
        self._where, self._place, self._send = where, place, send
        self._waiting = threading.local()

    def publish(self, draft: Path, name: str) -> None:
        """Send a file, or let it wait. Raise CacheError for a dataset repository, in which it would be a git commit."""
        if self._place.kind == DATASETS:
            raise refusal(self._place)
        files: list[tuple[Path, str]] | None = getattr(self._waiting, "files", None)
        if files is None:
            self._send([(draft, name)], "")
            return
        kept = self._waiting.folder / str(len(files))
        drafts.keep(draft, kept)
        files.append((kept, name))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send what this thread publishes inside in one call at the end; nothing if the block raises an error."""
        if getattr(self._waiting, "files", None) is not None:
            yield
            return
        with drafts.draft(None, self._where) as place:
            self._waiting.files, self._waiting.folder = [], place.parent
            try:
                yield
                files = self._waiting.files
            finally:
                self._waiting.files = None
            if files:
                self._send(files, "")
