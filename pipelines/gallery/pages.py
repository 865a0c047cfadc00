"""The gallery's pages as HTML, the same for the server and the export but for their links.

Every text from a cache is escaped: autoescape is on, and nothing is marked safe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.gallery.catalogue import Catalogue, CatalogueRow, EncoderFacts, QueryResult, TeacherFacts
from pipelines.gallery.urls import Urls
from pipelines.html_templates import template_environment
from pipelines.number_format import bytes_in_words, duration

if TYPE_CHECKING:
    from pipelines.gallery.follow import LiveState
    from pipelines.gallery.neighbours import Near

ASSETS = {
    "gallery.css": "text/css",
    "gallery.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "missing.svg": "image/svg+xml",
}
_FOLDER = Path(__file__).parents[1] / "templates" / "gallery"


@dataclass(frozen=True)
class Pages:
    """The pages of one catalogue. Each page shows `notice` at its top."""

    catalogue: Catalogue
    urls: Urls
    notice: str = ""

    def rows(self, found: QueryResult) -> str:
        """Return the page of a query's prompts and pictures."""
        here = "failures" if found.query.show.startswith("failed") else "gallery"
        teacher = found.query.teacher
        return self._render("list", teacher, here, found=found, shows=shows(teacher))

    def row(
        self,
        row: CatalogueRow,
        encoder: EncoderFacts | None,
        near: Sequence[Near] | None,
        *,
        fault: str = "",
        near_fault: str = "",
    ) -> str:
        """Return the page of one row and its neighbours by an encoder.

        `near` is None while the features are being read. `fault` is the error that hides the picture, `near_fault` the
        error that hides the neighbours.
        """
        teacher = self.catalogue.teachers[row.teacher]
        others = [(self.catalogue.row(one.image_key), one.cosine) for one in near or ()]
        return self._render(
            "row",
            teacher,
            "",
            row=row,
            encoder=encoder,
            near=None if near is None else [(other, cosine) for other, cosine in others if other],
            having=teacher.encoders_of(row),
            fault=fault,
            near_fault=near_fault,
        )

    def coverage(self) -> str:
        """Return the page of the numbers of pictures, features and failures, and their cost."""
        return self._render("coverage", self.catalogue.main, "coverage")

    def live(self, state: LiveState) -> str:
        """Return the page of how the builds go."""
        return self._render("live", self.catalogue.main, "live", progress=state.progress, pictures=state.pictures)

    def problem(self, title: str, message: str) -> str:
        """Return the page of an error."""
        return self._render("problem", self.catalogue.main, "", title=title, message=message)

    def _render(self, name: str, teacher: TeacherFacts, here: str, **facts: Any) -> str:
        page = _ENVIRONMENT.get_template(f"gallery/{name}.html.j2").render(
            urls=self.urls,
            cache_name=self.urls.name(self.catalogue.cache),
            teachers=self.catalogue.teachers,
            teacher=teacher,
            notice=self.notice,
            here=here,
            **facts,
        )
        return page.encode("utf-8", "replace").decode("utf-8")  # JSON may contain half of a surrogate pair


def shows(teacher: TeacherFacts) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """Return the choices of what to show of a teacher, in groups: value, label, number of rows."""
    states = [("all", teacher.rows), ("drawn", teacher.drawn), ("failed", teacher.failures)]
    groups = [("", [(name, name, count) for name, count in states])]
    if teacher.failed:
        groups.append(("Failed", [(f"failed:{name}", name, count) for name, count in sorted(teacher.failed.items())]))
    if teacher.encoders:
        groups.append(("With a feature of", [(f"with:{e.name}", e.name, e.features) for e in teacher.encoders]))
        lacking = [(f"without:{e.name}", e.name, teacher.drawn - e.features) for e in teacher.encoders]
        groups.append(("Drawn, without a feature of", lacking))
    return groups


def asset(name: str) -> bytes:
    """Return the content of a file named in ASSETS."""
    return (_FOLDER / name).read_bytes()


def _percent(part: float) -> str:
    """Format a percentage; it shows 0 % and 100 % only for exactly these."""
    return f"{min(part, 99.9) if part < 100 else part:.3g} %" if part >= 0.1 or not part else "<0.1 %"


def _money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 1 or not dollars else f"${dollars:.3g}"


_ENVIRONMENT = template_environment(
    {
        "number": "{:,}".format,
        "cosine": "{:.3f}".format,
        "percent": _percent,
        "size": bytes_in_words,
        "money": _money,
        "duration": duration,
        "clock": lambda seconds: time.strftime("%a %d %b %H:%M:%S", time.localtime(seconds)),
        "pretty": lambda spec: json.dumps(dict(spec), indent=1, ensure_ascii=False),
    }
)
