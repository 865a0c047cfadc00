"""Where a gallery's pages and pictures are: on the server, or in an export's folder."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote, urlencode

from pipelines.gallery.catalogue import Catalogue, CatalogueRow, Query, TeacherFacts

CHUNK = 4096  # rows of one file of the search index
_POLICY = "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'"


class Urls(Protocol):
    """Where things are."""

    policy: str  # a Content-Security-Policy to name in the page, where no header can
    action: str  # of the search form; empty where no server answers it

    def asset(self, name: str) -> str:
        """Our own style, script or drawing."""

    def gallery(self, teacher: str, show: str = "all") -> str:
        """The first page of all rows, or of the failures."""

    def show(self, teacher: str, show: str) -> str:
        """The first page of what any filter shows."""

    def page(self, query: Query, page: int) -> str:
        """Another page of the same question."""

    def page_of(self, row: CatalogueRow, teacher: TeacherFacts) -> str:
        """The page of all rows where a row stands."""

    def row(self, key: str) -> str:
        """The page of one row."""

    def picture(self, row: CatalogueRow) -> str:
        """The bytes of its picture."""

    def coverage(self) -> str:
        """Coverage and cost."""

    def chunks(self, teacher: TeacherFacts) -> int | None:
        """How many chunks the search index has; None where a server searches."""


class ServerUrls:
    """Addresses that the server answers."""

    policy, action = "", "/"

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
        return f"/picture/{row.image_key}?v={(row.image_sha256 or '')[:16]}"  # another picture has another address

    def coverage(self) -> str:
        return "/coverage"

    def chunks(self, teacher: TeacherFacts) -> int | None:
        return None


class ExportUrls:
    """Addresses within the folder, seen from a page that is `up` away from its top (`` or `../`)."""

    policy, action = _POLICY, ""

    def __init__(self, up: str, catalogue: Catalogue, files: dict[str, str]) -> None:
        self._up, self._files = up, files
        self._numbers = {teacher.name: teacher.number for teacher in catalogue.teachers}

    def asset(self, name: str) -> str:
        return f"{self._up}assets/{name}"

    def gallery(self, teacher: str, show: str = "all") -> str:
        return self._up + page_name(self._numbers[teacher], show, 1)

    def show(self, teacher: str, show: str) -> str:
        return f"{self.gallery(teacher)}#show={quote(show, safe='')}"

    def page(self, query: Query, page: int) -> str:
        return self._up + page_name(query.teacher.number, query.show, page)

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


def page_name(teacher: int, show: str, page: int) -> str:
    """The file of a page of all rows, or of the failures."""
    if (teacher, show, page) == (0, "all", 1):
        return "index.html"
    return f"{'failures' if show == 'failed' else 'pictures'}-{teacher}-{page}.html"
