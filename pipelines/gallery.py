"""The gallery's server: read-only, on loopback, for one browser. It answers GET alone and hosts of its own name alone,
and sends nothing from a cache but escaped text and real pictures.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.catalogue import Asked, Catalogue, EncoderFacts, Row, TeacherFacts, open_catalogue
from pipelines.neighbours import neighbours
from pipelines.pages import ASSETS, Pages, asset
from teacher_cache import ArmadaError, Cache, Features, choose, list_shards, open_features

HOSTS = ["127.0.0.1", "localhost"]
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}
_CHECK_S = 2.0  # between two looks at whether the cache has grown
_PATIENCE_S = 0.7  # how long a page waits for what is being made
_T = TypeVar("_T")


class ServerLinks:
    """Addresses that the server answers."""

    policy, action = "", "/"

    def asset(self, name: str) -> str:
        return f"/assets/{name}"

    def gallery(self, teacher: str, show: str = "all") -> str:
        return self.show(teacher, show)

    def show(self, teacher: str, show: str) -> str:
        return f"/?{urlencode({'teacher': teacher, 'show': show})}"

    def page(self, asked: Asked, page: int) -> str:
        return f"{self.show(asked.teacher.name, asked.show)}&{urlencode({'q': asked.text, 'page': page})}"

    def page_of(self, row: Row, teacher: TeacherFacts) -> str:
        return self.page(Asked(teacher), teacher.page_of(row))

    def row(self, key: str) -> str:
        return f"/row/{key}"

    def picture(self, row: Row) -> str:
        return f"/picture/{row.image_key}?v={(row.image_sha256 or '')[:16]}"  # another picture has another address

    def coverage(self) -> str:
        return "/coverage"

    def chunks(self, teacher: TeacherFacts) -> int | None:
        return None


class Gallery:
    """A cache that is being looked at: its catalogue, made anew beside the pages where the cache grew, and the features
    that were asked for."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._catalogue = open_catalogue(cache)
        self._checked = time.monotonic()
        self._next: Future[Catalogue] | None = None
        self._features: dict[tuple[str, str, str], Future[Features]] = {}
        self._lock = threading.Lock()

    def pages(self) -> Pages:
        """The pages of what the cache holds, as far as it is known by now."""
        with self._lock:
            if self._next is None and time.monotonic() - self._checked > _CHECK_S:
                self._next = _begin(self._newer)
                self._checked = time.monotonic()
            pending = self._next
        notice = ""
        if pending:
            try:
                self._catalogue = pending.result(_PATIENCE_S)
            except TimeoutError:
                return Pages(self._catalogue, ServerLinks(), "The cache has changed and is being listed anew: reload.")
            except Exception as error:
                notice = f"This is how the cache was; it can’t be listed anew: {error}"
            self._next = None
        return Pages(self._catalogue, ServerLinks(), notice)

    def _newer(self) -> Catalogue:
        listed = list_shards(self._cache).digest
        return self._catalogue if self._catalogue.digest.startswith(listed[:32]) else open_catalogue(self._cache)

    def features(self, digest: str, teacher: TeacherFacts, encoder: EncoderFacts) -> Features | None:
        """The features as of a catalogue's digest; None while they are still being decoded. Raises ArmadaError."""
        key = (digest, teacher.digest, encoder.digest)
        with self._lock:
            if key not in self._features:
                self._features = {other: found for other, found in self._features.items() if other[0] == digest}
                chosen = choose(self._cache, teacher.digest, encoder.digest)
                self._features[key] = _begin(partial(open_features, self._cache, *chosen))
            opened = self._features[key]
        try:
            return opened.result(_PATIENCE_S)
        except TimeoutError:
            return None
        except ArmadaError:
            self._features.pop(key, None)  # so that the next look tries again
            raise


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


def make_app(cache: Cache) -> Starlette:
    """The application. Raises ArmadaError for a cache that can't be listed, or that no teacher has drawn into."""
    gallery = Gallery(cache)
    if not gallery.pages().catalogue.teachers:
        raise ArmadaError(f"{cache.store}: no teacher has drawn into this cache yet; draw by: armada cache build")

    def rows(request: Request) -> Response:
        pages, asked = gallery.pages(), request.query_params
        found = [one for one in pages.catalogue.teachers if one.name == asked.get("teacher", one.name)]
        if not found:
            raise ArmadaError(f"teacher: none is called {asked['teacher']!r} here")
        page = int(asked["page"]) if re.fullmatch("[0-9]{1,9}", asked.get("page", "")) else 1
        question = Asked(found[0], asked.get("show", "all"), asked.get("q", "")[:1000], page)
        return HTMLResponse(pages.rows(pages.catalogue.find(question)))

    def row(request: Request) -> Response:
        pages = gallery.pages()
        one = _row(pages.catalogue, request)
        teacher = pages.catalogue.teachers[one.teacher]
        encoder, near, fault, waiting = _encoder(teacher, one, request.query_params.get("encoder")), None, "", ""
        try:
            if one.reason is None:
                pages.catalogue.picture(one)
            features = gallery.features(pages.catalogue.digest, teacher, encoder) if encoder else None
            if features is not None:
                (near,) = neighbours(features, [one.image_key])
        except (ArmadaError, OSError) as error:
            fault = str(error)
        if encoder and near is None:
            waiting = (
                f"The {encoder.features:,} features are being read, once on this machine; they come by themselves."
            )
        headers = {"Refresh": "2"} if waiting and not fault and one.reason is None else {}
        return HTMLResponse(pages.row(one, encoder, near, fault=fault, waiting=waiting), headers=headers)

    def picture(request: Request) -> Response:
        catalogue = gallery.pages().catalogue
        try:
            data, kind = catalogue.picture(_row(catalogue, request))
        except (ArmadaError, OSError):
            return Response(asset("missing.svg"), 404, media_type="image/svg+xml")
        return Response(data, headers=_KEEP, media_type=f"image/{kind}")

    def coverage(request: Request) -> Response:
        return HTMLResponse(gallery.pages().coverage())

    def assets(request: Request) -> Response:
        name = request.path_params["name"]
        return Response(asset(name), media_type=ASSETS[name]) if name in ASSETS else PlainTextResponse("no", 404)

    def problem(request: Request, error: Exception) -> Response:
        return HTMLResponse(gallery.pages().problem("There is no such page", str(error)), 404)

    return Starlette(
        routes=[
            Route("/", rows),
            Route("/row/{key}", row),
            Route("/picture/{key}", picture),
            Route("/coverage", coverage),
            Route("/assets/{name}", assets),
        ],
        middleware=[Middleware(Guard), Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={ArmadaError: problem},
    )


def _row(catalogue: Catalogue, request: Request) -> Row:
    key = request.path_params["key"]
    found = catalogue.row(key)
    if found is None:
        raise ArmadaError(f"{key[:80]!r}: no row of this cache has this image key")
    return found


def _encoder(teacher: TeacherFacts, row: Row, name: str | None) -> EncoderFacts | None:
    """The encoder that is asked for, or the first one with a feature of the row, or the first one."""
    named = [one for one in teacher.encoders if one.name == name]
    having = [one for bit, one in enumerate(teacher.encoders) if row.encoders >> bit & 1]
    return next(iter([*named, *having, *teacher.encoders]), None)


class Guard:
    """Refuses all but GET and HEAD, and puts the safe headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = list(message.get("headers", []))
                given = {name.lower() for name, _ in headers}
                safe = ((name.lower().encode(), value.encode()) for name, value in _HEADERS.items())
                message["headers"] = headers + [(name, value) for name, value in safe if name not in given]
            await send(message)

        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            refusal = PlainTextResponse("only GET is answered here", 405, {"Allow": "GET, HEAD"})
            await refusal(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)
