"""The gallery's server: read-only, on loopback, for one browser. It answers GET alone and hosts of its own name alone,
and sends nothing from a cache but escaped text and real pictures.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipelines.gallery.catalogue import Catalogue, CatalogueRow, EncoderFacts, Query, TeacherFacts, open_catalogue
from pipelines.gallery.neighbours import Near, neighbours
from pipelines.gallery.pages import ASSETS, Pages, asset
from pipelines.gallery.security import SecurityMiddleware
from pipelines.gallery.urls import ServerUrls
from teacher_cache import ArmadaError, Cache, Features, choose, list_shards, open_features

HOSTS = ["127.0.0.1", "localhost"]
_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
_CHECK_S = 2.0  # between two looks at whether the cache has grown
_GLANCE_S = 0.1  # how long a page waits for that look
_PATIENCE_S = 0.7  # how long it waits for what is being made
_T = TypeVar("_T")


class Gallery:
    """A cache that is being looked at: its catalogue, made anew beside the pages where the cache grew, and the features
    that were asked for."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.catalogue = open_catalogue(cache)
        self._checked = time.monotonic()
        self._next: Future[Catalogue] | None = None
        self._is_stale = False
        self._problem = ""
        self._features: dict[tuple[str, str, str], Future[Features]] = {}
        self._lock = threading.Lock()

    def pages(self) -> Pages:
        """The pages of what the cache holds, as far as it is known by now."""
        with self._lock:
            if self._next is None and time.monotonic() - self._checked > _CHECK_S:
                self._checked, self._is_stale = time.monotonic(), False
                self._next = _begin(self._newer)
            pending = self._next
        if pending:
            wait([pending], _GLANCE_S)
            if self._is_stale:
                wait([pending], _PATIENCE_S)
            if not pending.done():
                notice = "The cache has changed and is being listed anew: reload." if self._is_stale else self._problem
                return Pages(self.catalogue, ServerUrls(), notice)
            self._take(pending)
        return Pages(self.catalogue, ServerUrls(), self._problem)

    def _newer(self) -> Catalogue:
        if self.catalogue.digest.startswith(list_shards(self._cache).digest[:32]):
            return self.catalogue
        self._is_stale = True
        return open_catalogue(self._cache)

    def _take(self, found: Future[Catalogue]) -> None:
        with self._lock:
            if self._next is not found:  # another page was first
                return
            self._next, self._problem = None, ""
            try:
                self.catalogue = found.result()
            except Exception as error:
                self._problem = f"This is how the cache was; it can’t be listed anew: {error}"

    def near(self, digest: str, teacher: TeacherFacts, encoder: EncoderFacts, image_key: str) -> list[Near] | None:
        """A row's neighbours as of a catalogue's digest; None while the features are still being decoded. Raises what
        went wrong; the next look tries again."""
        key = (digest, teacher.digest, encoder.digest)
        with self._lock:
            if key not in self._features:
                self._features = {other: found for other, found in self._features.items() if other[0] == digest}
                self._features[key] = _begin(partial(_open, self._cache, teacher, encoder))
            opened = self._features[key]
        wait([opened], _PATIENCE_S)
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


def _begin(work: Callable[[], _T]) -> Future[_T]:
    """Do work in a thread that holds up no exit."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def make_app(cache: Cache) -> ASGIApp:
    """The application. Raises ArmadaError for a cache that can't be listed, or that no teacher has drawn into."""
    gallery = Gallery(cache)

    def rows(request: Request) -> Response:
        pages, query = gallery.pages(), request.query_params
        found = [one for one in pages.catalogue.teachers if one.name == query.get("teacher", one.name)]
        if not found:
            raise ArmadaError(f"teacher: none is called {query['teacher']!r} here")
        page = int(query["page"]) if re.fullmatch("[0-9]{1,9}", query.get("page", "")) else 1
        question = Query(found[0], query.get("show", "all"), query.get("q", "")[:1000], page)
        return HTMLResponse(pages.rows(pages.catalogue.find(question)))

    def row(request: Request) -> Response:
        pages = gallery.pages()
        one = _row(pages.catalogue, request)
        teacher = pages.catalogue.teachers[one.teacher]
        encoder, near = _encoder(teacher, one, request.query_params.get("encoder")), None
        fault = near_fault = ""
        if one.reason is None:
            try:
                pages.catalogue.picture(one)
            except Exception as error:
                fault = str(error)
            try:
                near = gallery.near(pages.catalogue.digest, teacher, encoder, one.image_key) if encoder else None
            except Exception as error:
                near_fault = str(error)
        is_pending = one.reason is None and encoder is not None and near is None and not near_fault
        page = pages.row(one, encoder, near, fault=fault, near_fault=near_fault)
        return HTMLResponse(page, headers={"Refresh": "2"} if is_pending else {})

    def picture(request: Request) -> Response:
        catalogue = gallery.catalogue  # without a look at the cache: a page asks for many pictures
        try:
            data, kind = catalogue.picture(_row(catalogue, request))
        except (ArmadaError, OSError):  # the row's page says why
            return Response(asset("missing.svg"), 404, media_type="image/svg+xml")
        return Response(data, headers=_KEEP, media_type=f"image/{kind}")

    def coverage(request: Request) -> Response:
        return HTMLResponse(gallery.pages().coverage())

    def assets(request: Request) -> Response:
        name = request.path_params["name"]
        return Response(asset(name), media_type=ASSETS[name]) if name in ASSETS else PlainTextResponse("no", 404)

    def problem(request: Request, error: Exception) -> Response:
        return HTMLResponse(gallery.pages().problem("There is no such page", str(error)), 404)

    pages_of_cache = Starlette(
        routes=[
            Route("/", rows),
            Route("/row/{key}", row),
            Route("/picture/{key}", picture),
            Route("/coverage", coverage),
            Route("/assets/{name}", assets),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={ArmadaError: problem},
    )
    return SecurityMiddleware(pages_of_cache)


def _row(catalogue: Catalogue, request: Request) -> CatalogueRow:
    key = request.path_params["key"]
    found = catalogue.row(key)
    if found is None:
        raise ArmadaError(f"{key[:80]!r}: no row of this cache has this image key")
    return found


def _encoder(teacher: TeacherFacts, row: CatalogueRow, name: str | None) -> EncoderFacts | None:
    """The encoder that is asked for, or the first one with a feature of the row, or the first one."""
    named = [one for one in teacher.encoders if one.name == name]
    return next(iter([*named, *teacher.encoders_of(row), *teacher.encoders]), None)
