"""The gallery's server: read-only, on the loopback address, for one browser.

It accepts only GET and only its own host names, and sends nothing from a cache but escaped text and verified pictures.
"""

from __future__ import annotations

import re

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipelines.gallery.catalogue import Catalogue, CatalogueRow, EncoderFacts, Query, TeacherFacts
from pipelines.gallery.follow import Follower
from pipelines.gallery.live_gallery import LiveGallery
from pipelines.gallery.pages import ASSETS, asset
from pipelines.gallery.security import SecurityMiddleware
from pipelines.gallery.urls import ServerUrls
from teacher_cache import ArmadaError, Cache

HOSTS = ["127.0.0.1", "localhost"]
_KEEP = {"Cache-Control": "private, max-age=31536000, immutable"}


def make_app(cache: Cache, *, follows: bool = False) -> ASGIApp:
    """Return the application; with the live page if it `follows` the builds of the cache.

    Raise ArmadaError if the cache can't be listed or no teacher has drawn into it.
    """
    follower = Follower(cache) if follows else None
    handlers = _Handlers(LiveGallery(cache, ServerUrls(follows)), follower)
    live = [Route("/live", handlers.live), Route("/live/picture/{key}", handlers.live_picture)] if follows else []
    app = Starlette(
        routes=[
            Route("/", handlers.rows),
            Route("/row/{key}", handlers.row),
            Route("/picture/{key}", handlers.picture),
            Route("/coverage", handlers.coverage),
            Route("/assets/{name}", _asset),
            *live,
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={ArmadaError: handlers.problem},
    )
    return SecurityMiddleware(app)


class _Handlers:
    """One function per route. Starlette calls them in threads; the gallery is safe to share."""

    def __init__(self, gallery: LiveGallery, follower: Follower | None) -> None:
        self._gallery, self._follower = gallery, follower

    def rows(self, request: Request) -> Response:
        """Answer `/?teacher=&show=&q=&page=` with a page of rows."""
        pages, parameters = self._gallery.pages(), request.query_params
        wanted = parameters.get("teacher", pages.catalogue.main.name)
        named = [one for one in pages.catalogue.teachers if one.name == wanted]
        if not named:
            known = ", ".join(one.name for one in pages.catalogue.teachers)
            raise ArmadaError(f"teacher: expected one of {known}, found {wanted!r}")
        page = int(parameters["page"]) if re.fullmatch("[0-9]{1,9}", parameters.get("page", "")) else 1
        query = Query(named[0], parameters.get("show", "all"), parameters.get("q", "")[:1000], page)
        return HTMLResponse(pages.rows(pages.catalogue.find(query)))

    def row(self, request: Request) -> Response:
        """Answer `/row/KEY?encoder=`; the page reloads itself while the neighbours are in the making."""
        pages = self._gallery.pages()
        row = _requested_row(pages.catalogue, request)
        teacher = pages.catalogue.teachers[row.teacher]
        encoder, near = _requested_encoder(teacher, row, request.query_params.get("encoder")), None
        fault = near_fault = ""
        if row.reason is None:
            try:
                pages.catalogue.picture(row)
            except Exception as error:
                fault = str(error)
            try:
                near = self._gallery.near(pages.catalogue.digest, teacher, encoder, row.image_key) if encoder else None
            except Exception as error:
                near_fault = str(error)
        is_pending = row.reason is None and encoder is not None and near is None and not near_fault
        page = pages.row(row, encoder, near, fault=fault, near_fault=near_fault)
        return HTMLResponse(page, headers={"Refresh": "2"} if is_pending else {})

    def picture(self, request: Request) -> Response:
        """Answer `/picture/KEY` with a verified picture, or with a drawing and code 404."""
        catalogue = self._gallery.catalogue  # without a check for changes: a page requests many pictures
        try:
            data, kind = catalogue.picture(_requested_row(catalogue, request))
        except (ArmadaError, OSError):  # the row's page shows the error
            return Response(asset("missing.svg"), 404, media_type="image/svg+xml")
        return Response(data, headers=_KEEP, media_type=f"image/{kind}")

    def coverage(self, request: Request) -> Response:
        """Answer `/coverage`."""
        return HTMLResponse(self._gallery.pages().coverage())

    def live(self, request: Request) -> Response:
        """Answer `/live` with how the builds go."""
        assert self._follower
        return HTMLResponse(self._gallery.pages().live(self._follower.state()))

    def live_picture(self, request: Request) -> Response:
        """Answer `/live/picture/KEY` with one of the newest pictures, or with a drawing and code 404."""
        assert self._follower
        try:
            data, kind = self._follower.picture(request.path_params["key"])
        except (ArmadaError, OSError):
            return Response(asset("missing.svg"), 404, media_type="image/svg+xml")
        return Response(data, headers={"Cache-Control": "private, max-age=600"}, media_type=f"image/{kind}")

    def problem(self, request: Request, error: Exception) -> Response:
        """Answer an error of the request with a page and code 404."""
        return HTMLResponse(self._gallery.pages().problem("There is no such page", str(error)), 404)


def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    return Response(asset(name), media_type=ASSETS[name]) if name in ASSETS else PlainTextResponse("not found", 404)


def _requested_row(catalogue: Catalogue, request: Request) -> CatalogueRow:
    key = request.path_params["key"]
    found = catalogue.row(key)
    if found is None:
        raise ArmadaError(f"{key[:80]!r}: no row of this cache has this image key")
    return found


def _requested_encoder(teacher: TeacherFacts, row: CatalogueRow, name: str | None) -> EncoderFacts | None:
    """Return the encoder of this name, else the first one with a feature of the row, else the first one."""
    named = [one for one in teacher.encoders if one.name == name]
    return next(iter([*named, *teacher.encoders_of(row), *teacher.encoders]), None)
