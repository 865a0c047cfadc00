"""The addresses of a gallery's pages and pictures: on the server, or in an export's folder."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlencode

from pipelines.gallery.catalogue import Catalogue, CatalogueRow, Query, TeacherFacts
from teacher_cache import Cache, redact

CHUNK = 4096  # rows per file of the search index
MESSAGE = 200  # most characters of a failure's message on a card
_POLICY = "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'"


class Urls(Protocol):
    """The addresses of pages, pictures and assets."""

    policy: str  # a Content-Security-Policy for the page itself; empty if the server sends a header
    action: str  # of the search form; empty without a server
    live: str  # the address of the live page; empty if there is none

    def name(self, cache: Cache) -> str:
        """Return what the pages call a cache."""

    def asset(self, name: str) -> str:
        """Return the address of one of our own files: style, script or drawing."""

    def gallery(self, teacher: str, show: str = "all") -> str:
        """Return the address of the first page of all rows, or of the failures."""

    def show(self, teacher: str, show: str) -> str:
        """Return the address of the first page of any filter."""

    def page(self, query: Query, page: int) -> str:
        """Return the address of another page of the same query."""

    def page_of(self, row: CatalogueRow, teacher: TeacherFacts) -> str:
        """Return the address of the page of all rows that shows a row."""

    def row(self, key: str) -> str:
        """Return the address of the page of one row."""

    def picture(self, row: CatalogueRow) -> str:
        """Return the address of a row's picture."""

    def coverage(self) -> str:
        """Return the address of the page of coverage and cost."""

    def chunks(self, teacher: TeacherFacts) -> int | None:
        """Return the number of chunks of the search index; None if the server searches."""


class ServerUrls:
    """Addresses on the server."""

    policy, action = "", "/"

    def __init__(self, follows: bool = False) -> None:
        self.live = "/live" if follows else ""

    def name(self, cache: Cache) -> str:
        return str(cache.store)

    def asset(self, name: str) -> str:
        return f"/assets/{name}"

    def gallery(self, teacher: str, show: str = "all") -> str:
        return self.show(teacher, show)

    def show(self, teacher: str, show: str) -> str:
        return f"/?{urlencode({'teacher': teacher, 'show': show})}"

    def page(self, query: Query, page: int) -> str:
        return f"{self.show(query.teacher.name, query.show)}&{urlencode({'q': query.text, 'page': page})}"

    def page_of(self, row: CatalogueRow, teacher: TeacherFacts) -> str:
        return self.page(Query(teacher), teacher.page_of(row))

    def row(self, key: str) -> str:
        return f"/row/{key}"

    def picture(self, row: CatalogueRow) -> str:
        return f"/picture/{row.image_key}?v={(row.image_sha256 or '')[:16]}"  # a changed picture has another address

    def coverage(self) -> str:
        return "/coverage"

    def chunks(self, teacher: TeacherFacts) -> int | None:
        return None


class ExportUrls:
    """Addresses in an export's folder, relative to a page; `up` leads from the page to the folder (`` or `../../`)."""

    policy, action, live = _POLICY, "", ""

    def __init__(self, up: str, catalogue: Catalogue, files: dict[str, str]) -> None:
        self._up, self._files = up, files
        self._numbers = {teacher.name: teacher.number for teacher in catalogue.teachers}
        self._main = catalogue.main.number

    def name(self, cache: Cache) -> str:
        return public_name(cache)

    def asset(self, name: str) -> str:
        return f"{self._up}assets/{name}"

    def gallery(self, teacher: str, show: str = "all") -> str:
        return self._up + self.file(self._numbers[teacher], show, 1)

    def show(self, teacher: str, show: str) -> str:
        return f"{self.gallery(teacher)}#show={quote(show, safe='')}"

    def page(self, query: Query, page: int) -> str:
        return self._up + self.file(query.teacher.number, query.show, page)

    def page_of(self, row: CatalogueRow, teacher: TeacherFacts) -> str:
        return self.page(Query(teacher), teacher.page_of(row))

    def row(self, key: str) -> str:
        return f"{self._up}rows/{key[:2]}/{key}.html"

    def picture(self, row: CatalogueRow) -> str:
        return self._up + self._files.get(row.image_sha256 or "", "assets/missing.svg")

    def coverage(self) -> str:
        return f"{self._up}coverage.html"

    def chunks(self, teacher: TeacherFacts) -> int | None:
        return -(-teacher.rows // CHUNK)

    def file(self, teacher: int, show: str, page: int) -> str:
        """Return the file name of a page of all rows, or of the failures, of the teacher with this number."""
        if (teacher, show, page) == (self._main, "all", 1):
            return "index.html"
        return f"{'failures' if show == 'failed' else 'pictures'}-{teacher}-{page}.html"


def public_name(cache: Cache) -> str:
    """Return the name of a cache for the readers of an export, without the exporter's folders: that of its own folder;
    of a cache elsewhere, its URL without secrets."""
    root = cache.store.local_path("cache.json")
    return redact(str(cache.store)) if root is None else root.parent.resolve().name or "cache"
