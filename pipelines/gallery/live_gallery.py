"""The state behind the gallery's server: the catalogue, which follows a cache that grows, and the opened features.

Both are made in the background, so that a page waits for a fraction of a second and then shows what there is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import TypeVar

from pipelines.gallery.catalogue import Catalogue, EncoderFacts, TeacherFacts, open_catalogue
from pipelines.gallery.neighbours import Near, neighbours
from pipelines.gallery.pages import Pages
from pipelines.gallery.urls import ServerUrls, Urls
from teacher_cache import Cache, Features, choose, list_shards, open_features

_CHECK_S = 2.0  # between two checks of whether the cache has changed
_CHECK_WAIT_S = 0.1  # how long a page waits for that check
_WORK_WAIT_S = 0.7  # how long a page waits for a catalogue or features in the making
_T = TypeVar("_T")


class LiveGallery:
    """A served cache: its catalogue, rebuilt in the background when the cache changes, and its opened features."""

    def __init__(self, cache: Cache, urls: Urls = ServerUrls()) -> None:
        """Open the catalogue. Raise ArmadaError if the cache can't be listed or no teacher has drawn into it."""
        self._cache, self._urls = cache, urls
        self.catalogue = open_catalogue(cache)
        self._checked = time.monotonic()
        self._next: Future[Catalogue] | None = None
        self._is_stale = False
        self._problem = ""
        self._features: dict[tuple[str, str, str], Future[Features]] = {}
        self._lock = threading.Lock()

    def pages(self) -> Pages:
        """Return the pages of the newest catalogue that is ready; their notice tells if it is out of date."""
        with self._lock:
            if self._next is None and time.monotonic() - self._checked > _CHECK_S:
                self._checked, self._is_stale = time.monotonic(), False
                self._next = _start(self._newest_catalogue)
            pending = self._next
        if pending:
            wait([pending], _CHECK_WAIT_S)
            if self._is_stale:
                wait([pending], _WORK_WAIT_S)
            if not pending.done():
                notice = "The cache has changed and is being listed again: reload." if self._is_stale else self._problem
                return Pages(self.catalogue, self._urls, notice)
            self._take(pending)
        return Pages(self.catalogue, self._urls, self._problem)

    def _newest_catalogue(self) -> Catalogue:
        if self.catalogue.digest.startswith(list_shards(self._cache).digest[:32]):
            return self.catalogue
        self._is_stale = True
        return open_catalogue(self._cache)

    def _take(self, found: Future[Catalogue]) -> None:
        with self._lock:
            if self._next is not found:  # another request has taken it
                return
            self._next, self._problem = None, ""
            try:
                self.catalogue = found.result()
            except Exception as error:
                self._problem = f"This list may be out of date; the cache can’t be listed again: {error}"

    def near(self, digest: str, teacher: TeacherFacts, encoder: EncoderFacts, image_key: str) -> list[Near] | None:
        """Return a row's neighbours in the catalogue of a digest; None while the features are being decoded.

        Raise the error of opening or reading the features; the next call tries again.
        """
        key = (digest, teacher.digest, encoder.digest)
        with self._lock:
            if key not in self._features:
                self._features = {other: found for other, found in self._features.items() if other[0] == digest}
                self._features[key] = _start(partial(_open, self._cache, teacher, encoder))
            opened = self._features[key]
        wait([opened], _WORK_WAIT_S)
        if not opened.done():
            return None
        try:
            (found,) = neighbours(opened.result(), [image_key])
        except Exception:
            with self._lock:
                if self._features.get(key) is opened:
                    del self._features[key]
            raise
        return found


def _open(cache: Cache, teacher: TeacherFacts, encoder: EncoderFacts) -> Features:
    return open_features(cache, *choose(cache, teacher.digest, encoder.digest))


def _start(function: Callable[[], _T]) -> Future[_T]:
    """Call a function in a daemon thread, which does not delay the exit of the process."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
