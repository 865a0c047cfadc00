"""The catalogue: a cache's rows, queried by page, words and state.

A result is at most one page, and rows have one stable order in every query.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipelines.gallery.catalogue_build import fold, make_catalogue
from teacher_cache import ArmadaError, Cache, CacheError, PictureError, as_png, picture_suffix, read_picture

PAGE = 48  # rows
WORDS = 100  # most words per search; SQLite limits the length of a statement
KINDS = {"png": "png", "jpg": "jpeg", "webp": "webp", "gif": "gif", "avif": "avif"}  # that browsers show, by suffix


@dataclass(frozen=True)
class CatalogueRow:
    """A prompt's picture, or the reason why there is none."""

    number: int
    teacher: int
    image_key: str
    prompt: str
    sample: int
    encoders: int  # bit mask: one bit per encoder with a feature of this picture
    path: str | None  # of the tar
    offset: int | None
    bytes: int | None
    image_sha256: str | None
    cost_usd: float | None
    seconds: float | None
    attempts: int | None
    reason: str | None
    message: str | None
    drawn_prompt: str | None = None  # what the teacher's recipe drew in the prompt's place


_COLUMNS = ", ".join(field.name for field in fields(CatalogueRow))


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder, and its features of one teacher's pictures in numbers."""

    name: str
    digest: str
    spec: Mapping[str, Any]
    facts: Mapping[str, Any]
    bytes: int
    features: int


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher and its rows in numbers.

    `first` is the number of its first row; cost and seconds are None if none of its rows has them.
    """

    number: int
    name: str
    digest: str
    spec: Mapping[str, Any]
    facts: Mapping[str, Any]
    bytes: int
    encoders: tuple[EncoderFacts, ...]
    first: int
    rows: int
    drawn: int
    failed: Mapping[str, int]  # by reason
    cost_usd: float | None
    seconds: float | None
    attempts: int | None

    @property
    def failures(self) -> int:
        """The number of rows without a picture."""
        return sum(self.failed.values())

    def page_of(self, row: CatalogueRow) -> int:
        """Return the number of the page of all rows that shows a row."""
        return (row.number - self.first) // PAGE + 1

    def encoders_of(self, row: CatalogueRow) -> list[EncoderFacts]:
        """Return the encoders with a feature of a row's picture."""
        return [encoder for bit, encoder in enumerate(self.encoders) if row.encoders >> bit & 1]


@dataclass(frozen=True)
class Query:
    """Which rows of a teacher to show.

    `show` is `all`, `drawn`, `failed`, `failed:REASON`, `with:ENCODER` or `without:ENCODER`. The prompt must contain
    every word of `text`.
    """

    teacher: TeacherFacts
    show: str = "all"
    text: str = ""
    page: int = 1


@dataclass(frozen=True)
class QueryResult:
    """One page of a query's rows, and the total number of rows."""

    query: Query
    rows: tuple[CatalogueRow, ...]
    total: int

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return max(1, -(-self.total // PAGE))


class Catalogue:
    """A cache's catalogue, open for reading; threads may share it."""

    def __init__(self, cache: Cache, path: Path, digest: str) -> None:
        self.cache, self.digest, self._path = cache, digest, path
        # The file never changes under this name, and stays readable while it is open, even if it is removed.
        self._database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        self._lock = threading.Lock()
        self.teachers = tuple(_teacher(facts) for facts in json.loads(self._all("SELECT json FROM facts")[0][0]))

    @property
    def main(self) -> TeacherFacts:
        """The teacher that the pages begin with: the one with the most rows."""
        return max(self.teachers, key=lambda one: one.rows)

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._path.unlink(missing_ok=True)
            raise CacheError(
                f"{self._path}: {error}; the damaged file was removed; run the same command again to list the "
                "cache anew"
            ) from error

    def find(self, query: Query) -> QueryResult:
        """Return one page of rows; a page number beyond the last one returns the last page.

        Raise ArmadaError if `query.show` is none of the forms that Query names.
        """
        teacher, words = query.teacher, list(dict.fromkeys(fold(query.text).split()))[:WORDS]
        first, last = teacher.first, teacher.first + teacher.rows - 1
        condition, values, total = _condition(teacher, query.show)
        where = " AND ".join(["number BETWEEN ? AND ?", condition, *["instr(folded, ?)"] * len(words)])
        values = [first, last, *values, *words]
        if words:
            total = self._all(f"SELECT count(*) FROM rows WHERE {where}", values)[0][0]
        page = max(1, min(query.page, -(-total // PAGE)))
        skipped = (page - 1) * PAGE
        if query.show == "all" and not words:  # row numbers have no gaps: start at the page's first row
            values[0], skipped = first + skipped, 0
        rows = self._all(
            f"SELECT {_COLUMNS} FROM rows WHERE {where} ORDER BY number LIMIT ? OFFSET ?", [*values, PAGE, skipped]
        )
        return QueryResult(replace(query, page=page), tuple(CatalogueRow(*row) for row in rows), total)

    def row(self, key: str) -> CatalogueRow | None:
        """Return the row of an image key; None if there is none."""
        found = self._all(f"SELECT {_COLUMNS} FROM rows WHERE image_key = ?", [key])
        return CatalogueRow(*found[0]) if found else None

    def walk(self, teacher: TeacherFacts) -> Iterator[CatalogueRow]:
        """Yield all rows of a teacher in order; they are read in batches."""
        for start in range(teacher.first, teacher.first + teacher.rows, 1024):
            end = min(start + 1024, teacher.first + teacher.rows) - 1
            for row in self._all(f"SELECT {_COLUMNS} FROM rows WHERE number BETWEEN ? AND ?", [start, end]):
                yield CatalogueRow(*row)

    def picture(self, row: CatalogueRow) -> tuple[bytes, str]:
        """Return a row's picture and its kind, a value of KINDS; a picture that browsers can't show becomes a PNG.

        Raise ArmadaError if no picture was drawn, CacheError if it is missing, changed or of an unknown format.
        """
        if row.path is None:
            raise ArmadaError(f"{row.image_key}: no picture was drawn: {row.reason}")
        data = read_picture(self.cache, asdict(row))
        suffix = picture_suffix(data)
        if suffix in KINDS:
            return data, KINDS[suffix]
        try:
            return as_png(data), "png"
        except PictureError as error:
            raise CacheError(f"{row.path}: picture {row.image_key}: {error}; it is not shown") from None


def open_catalogue(cache: Cache) -> Catalogue:
    """Open the catalogue of the cache's present content, and build it first if it is missing.

    Raise CacheError if a shard can't be read, ArmadaError if no teacher has drawn into the cache.
    """
    path, digest = make_catalogue(cache)
    try:
        catalogue = Catalogue(cache, path, digest)
    except (CacheError, sqlite3.Error, ValueError, TypeError, LookupError):  # the file was damaged after it was built
        path.unlink(missing_ok=True)
        catalogue = Catalogue(cache, *make_catalogue(cache))
    if not catalogue.teachers:
        raise ArmadaError(f"{cache.store}: no teacher has drawn into this cache yet; run: armada cache build")
    return catalogue


def _teacher(facts: dict[str, Any]) -> TeacherFacts:
    return TeacherFacts(**{**facts, "encoders": tuple(EncoderFacts(**encoder) for encoder in facts["encoders"])})


def _condition(teacher: TeacherFacts, show: str) -> tuple[str, list[Any], int]:
    """Return the SQL condition of a `show`, its values, and the number of rows that satisfy it."""
    kind, _, name = show.partition(":")
    if kind == "all":
        return "true", [], teacher.rows
    if kind == "drawn":
        return "reason IS NULL", [], teacher.drawn
    if kind == "failed" and not name:
        return "reason IS NOT NULL", [], teacher.failures
    if kind == "failed":
        return "reason = ?", [name], teacher.failed.get(name, 0)
    for bit, encoder in enumerate(teacher.encoders):
        if encoder.name == name and kind == "with":
            return "encoders & ?", [1 << bit], encoder.features
        if encoder.name == name and kind == "without":
            return "reason IS NULL AND NOT encoders & ?", [1 << bit], teacher.drawn - encoder.features
    raise ArmadaError(f"show: expected all, drawn, failed, failed:REASON, with: or without:ENCODER, found {show!r}")
