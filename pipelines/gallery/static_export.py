"""Export the gallery as a folder of pages that open without a server.

The folder has pages of pictures, one page per row, and a search index in chunks that the pages load. Pictures are named
by their digest and written once. A complete folder is not written again, an incomplete one is completed, and files of
rows that the cache has lost are removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.gallery.catalogue import (
    KINDS,
    Catalogue,
    CatalogueRow,
    EncoderFacts,
    Query,
    TeacherFacts,
    open_catalogue,
)
from pipelines.gallery.catalogue_build import catalogue_folder
from pipelines.gallery.neighbours import Near, neighbours
from pipelines.gallery.pages import ASSETS, Pages, asset
from pipelines.gallery.urls import CHUNK, MESSAGE, ExportUrls, public_name
from teacher_cache import (
    ArmadaError,
    Cache,
    Features,
    atomic_write,
    choose,
    full_disk_in_words,
    open_features,
    progress,
    sha256,
)

FORMAT = 2
MARK, MADE_BY = "gallery.json", "armada cache browse"
_OURS = re.compile(  # the only files that an export may remove
    r"(pictures|failures)-\d+-\d+\.html|search/\d+-\d+\.js|rows/[0-9a-f]{2}/[0-9a-f]{64}\.html"
    r"|pictures/[0-9a-f]{2}/[0-9a-f]{64}\.(png|jpeg|webp|gif|avif)"
)
_TOGETHER = 512  # rows per batch, for reading pictures and finding neighbours


@dataclass(frozen=True)
class Exported:
    """An export in numbers."""

    rows: int
    pictures: int  # distinct ones
    unreadable: int  # missing or damaged pictures


def export_gallery(cache: Cache, folder: Path) -> Exported:
    """Write the gallery of the cache's present content into a folder.

    Raise ArmadaError if the folder contains other files, can't be written to, or is being written by another export.
    """
    catalogue = open_catalogue(cache)
    _check_place(cache, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = sha256(str(folder.resolve()).encode())[:32]
        with FileLock(catalogue_folder(cache) / f"{place}.lock", timeout=0), full_disk_in_words(str(folder)):
            return _export(catalogue, folder)
    except Timeout:
        raise ArmadaError(f"--static {folder}: another export into it is running; wait until it ends") from None
    except OSError as error:
        raise ArmadaError(
            f"--static {folder}: expected a folder that can be written to, found: {error.strerror}; name another folder"
        ) from error


def _check_place(cache: Cache, folder: Path) -> None:
    """Raise ArmadaError if the folder is in the cache or contains files of others."""
    root = cache.store.local_path("cache.json")
    if root and folder.resolve().is_relative_to(root.parent.resolve()):
        raise ArmadaError(
            f"--static {folder}: expected a folder outside the cache, found one in it; name another folder"
        )
    if folder.is_dir() and any(folder.iterdir()) and _read(folder / MARK).get("made_by") != MADE_BY:
        raise ArmadaError(
            f"--static {folder}: expected a new or empty folder, or one that this command wrote, "
            f"found others' files; name another folder"
        )


def _export(catalogue: Catalogue, folder: Path) -> Exported:
    state = {"made_by": MADE_BY, "format": FORMAT, "catalogue": catalogue.digest}
    found = _read(folder / MARK)
    if {name: found.get(name) for name in state} == state and "exported" in found:
        return Exported(**found["exported"])
    atomic_write(folder / MARK, json.dumps(state).encode(), durable=False)
    exported = _Export(catalogue, folder).write()
    if not exported.unreadable:  # they may be repaired: look again next time
        atomic_write(folder / MARK, json.dumps({**state, "exported": asdict(exported)}).encode(), durable=False)
    return exported


class _Export:
    """One export: writes every file and records which files belong to it."""

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self._catalogue, self._folder = catalogue, folder
        self._files: dict[str, str] = {}  # path of a picture, by digest
        self._faults: dict[str, str] = {}
        self._kept: set[Path] = {folder / MARK}

    def write(self) -> Exported:
        rows = sum(teacher.rows for teacher in self._catalogue.teachers)
        with progress(2 * rows, "gallery", "row") as bar:
            for teacher in self._catalogue.teachers:
                for part in _parts(self._catalogue.walk(teacher), _TOGETHER):
                    self._pictures(part)
                    bar.update(len(part))
            urls = ExportUrls("", self._catalogue, self._files)
            top = Pages(self._catalogue, urls)
            for name in ASSETS:
                self._put(f"assets/{name}", asset(name))
            self._put("coverage.html", top.coverage().encode())
            for teacher in self._catalogue.teachers:
                self._lists(top, urls, teacher)
                self._index(teacher)
                for part, near, encoder in self._near(teacher):
                    self._rows(part, near, encoder)
                    bar.update(len(part))
        self._remove_the_rest()
        return Exported(rows, len(self._files), len(self._faults))

    def _pictures(self, rows: list[CatalogueRow]) -> None:
        drawn = {row.image_sha256: row for row in rows if row.image_sha256}
        with ThreadPoolExecutor(8) as pool:
            for digest, answer in zip(drawn, pool.map(self._picture, drawn.values()), strict=True):
                if isinstance(answer, Exception):
                    self._faults[digest] = self._without_place(answer)
                else:
                    self._files[digest] = answer

    def _without_place(self, error: Exception) -> str:
        """Return the words of an error without the folders of whoever exports: strangers read them."""
        cache = self._catalogue.cache
        return str(error).replace(str(cache.store), public_name(cache))

    def _picture(self, row: CatalogueRow) -> str | Exception:
        stem = f"pictures/{(row.image_sha256 or '')[:2]}/{row.image_sha256}"
        for kind in KINDS.values():
            if (self._folder / f"{stem}.{kind}").exists():
                self._kept.add(self._folder / f"{stem}.{kind}")
                return f"{stem}.{kind}"
        try:
            data, kind = self._catalogue.picture(row)
        except (ArmadaError, OSError) as error:
            return error
        self._put(f"{stem}.{kind}", data)
        return f"{stem}.{kind}"

    def _lists(self, pages: Pages, urls: ExportUrls, teacher: TeacherFacts) -> None:
        for show in ("all", "failed"):
            page, last = 1, 1
            while page <= last:
                found = self._catalogue.find(Query(teacher, show, page=page))
                last = found.pages
                self._put(urls.file(teacher.number, show, page), pages.rows(found).encode())
                page += 1

    def _index(self, teacher: TeacherFacts) -> None:
        for number, part in enumerate(_parts(self._catalogue.walk(teacher), CHUNK)):
            entries = [
                [
                    row.image_key,
                    row.prompt,
                    row.sample,
                    self._files.get(row.image_sha256 or "", "assets/missing.svg") if row.reason is None else None,
                    row.reason,
                    (row.message or "")[:MESSAGE],
                    [one.name for one in teacher.encoders_of(row)],
                ]
                for row in part
            ]
            text = (
                f"armadaChunk({number}, {json.dumps(entries)});\n"  # ASCII: no character of a prompt can end the script
            )
            self._put(f"search/{teacher.number}-{number}.js", text.encode())

    def _near(
        self, teacher: TeacherFacts
    ) -> Iterator[tuple[list[CatalogueRow], list[list[Near]], EncoderFacts | None]]:
        """Yield the rows in batches, with their neighbours by the encoder with the most features."""
        encoder = max(teacher.encoders, key=lambda one: one.features, default=None)
        features: Features | None = None
        if encoder and encoder.features:
            features = open_features(
                self._catalogue.cache, *choose(self._catalogue.cache, teacher.digest, encoder.digest)
            )
        for part in _parts(self._catalogue.walk(teacher), _TOGETHER):
            near = neighbours(features, [row.image_key for row in part]) if features else [[] for _ in part]
            yield part, near, encoder

    def _rows(self, rows: list[CatalogueRow], near: list[list[Near]], encoder: EncoderFacts | None) -> None:
        pages = Pages(self._catalogue, ExportUrls("../../", self._catalogue, self._files))
        for row, others in zip(rows, near, strict=True):
            fault = self._faults.get(row.image_sha256 or "", "")
            self._put(
                f"rows/{row.image_key[:2]}/{row.image_key}.html", pages.row(row, encoder, others, fault=fault).encode()
            )

    def _put(self, name: str, data: bytes) -> None:
        path = self._folder / name
        self._kept.add(path)
        if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data, durable=False)

    def _remove_the_rest(self) -> None:
        """Remove the files of earlier exports that don't belong to this one."""
        for path in self._folder.rglob("*.*"):
            if path not in self._kept and _OURS.fullmatch(path.relative_to(self._folder).as_posix()):
                path.unlink()


def _parts(rows: Iterator[CatalogueRow], size: int) -> Iterator[list[CatalogueRow]]:
    while part := list(islice(rows, size)):
        yield part


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
