"""Build a catalogue: stream a cache's rows from its shards into one SQLite file on this machine.

The file is named by the digest of the cache's content and is complete or absent. A new one replaces the older ones.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teacher_cache import (
    Cache,
    CacheError,
    Listing,
    Source,
    atomic_file,
    failure_tables,
    feature_tables,
    full_disk_in_words,
    image_tables,
    list_shards,
    sweep_drafts,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2
_BATCH = 4096  # rows per insert
_DRAFT_S = 3600.0  # a draft unchanged for so long was left by a killed process
_KEY = re.compile("[0-9a-f]{64}")  # keys and digests become addresses and file names; refuse anything else

# Rows are numbered by teacher, then by prompt: a page is a range of numbers, and one prompt's samples are adjacent.
_FIELDS = """image_key TEXT, teacher INTEGER, prompt TEXT, folded TEXT, sample INTEGER, encoders INTEGER, path TEXT,
  offset INTEGER, bytes INTEGER, image_sha256 TEXT, cost_usd REAL, seconds REAL, attempts INTEGER, reason TEXT,
  message TEXT, drawn_prompt TEXT"""
_SCHEMA = f"""
CREATE TABLE facts(json TEXT);
CREATE TABLE rows(number INTEGER PRIMARY KEY, {_FIELDS});
CREATE TEMP TABLE staged({_FIELDS}, PRIMARY KEY(image_key)) WITHOUT ROWID;
"""
_NAMES = [field.split()[0] for field in _FIELDS.split(",")]
_COLUMNS = ", ".join(_NAMES)
_PLACES = ", ".join("?" * len(_NAMES))
_ADD = f"INSERT INTO staged({_COLUMNS}) VALUES ({_PLACES}) ON CONFLICT(image_key) DO UPDATE SET "
_ASSIGN = ", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])
_ADD_PICTURE = f"{_ADD}{_ASSIGN} WHERE excluded.image_sha256 < image_sha256"
_ADD_FAILURE = f"{_ADD}{_ASSIGN} WHERE reason IS NOT NULL AND excluded.attempts > attempts"
_ADD_FEATURE = "UPDATE staged SET encoders = encoders | ? WHERE image_key = ? AND image_sha256 = ?"


def fold(text: str) -> str:
    """Return a text as searches compare it: without differences of case or of Unicode form."""
    return unicodedata.normalize("NFKC", text).casefold()


def make_catalogue(cache: Cache, tries: int = 3) -> tuple[Path, str]:
    """Return the catalogue file of the cache's present content and its digest; build the file if it is missing.

    Raise CacheError if a shard can't be read.
    """
    listing = list_shards(cache)
    digest = f"{listing.digest[:32]}-{FORMAT}"
    folder = catalogue_folder(cache)
    path = folder / f"{digest}.sqlite"
    if path.exists():
        return path, digest
    try:
        with full_disk_in_words(str(folder)), atomic_file(path) as draft:
            _write(cache, listing, draft)
    except CacheError:
        if tries == 1 or list_shards(cache) == listing:
            raise
        return make_catalogue(cache, tries - 1)  # the cache was compacted meanwhile
    _remove_others(folder, path)
    return path, digest


def _remove_others(folder: Path, path: Path) -> None:
    """Remove older catalogues, and the drafts of killed processes."""
    sweep_drafts(folder, _DRAFT_S)
    for other in folder.glob("*.sqlite"):
        with contextlib.suppress(OSError):  # another process has it open or removed it
            if other != path:
                other.unlink()


def catalogue_folder(cache: Cache) -> Path:
    """Return the folder of a cache's catalogues, in the user's folder: a cache may come from an unknown source."""
    folder = cache.derived_folder / "catalogues"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(cache: Cache, listing: Listing, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
        database.executescript(_SCHEMA)
        facts = []
        for number, teacher in enumerate(cache.teachers()):
            encoders = cache.encoders(teacher)[:62]  # one bit each
            for table in image_tables(cache, listing, teacher):
                database.executemany(_ADD_PICTURE, _pictures(table, number))
            for table in failure_tables(cache, listing, teacher):
                database.executemany(_ADD_FAILURE, _failures(table, number))
            for bit, encoder in enumerate(encoders):
                for table in feature_tables(cache, listing, teacher, encoder):
                    keys = (table[name].to_pylist() for name in ("image_key", "image_sha256"))
                    database.executemany(_ADD_FEATURE, ((1 << bit, *row) for row in zip(*keys, strict=True)))
            size = sum(shard.bytes for shard in listing.below(f"images/{teacher.name}/"))
            facts.append({"number": number, **_source_facts(teacher), "bytes": size, "encoders": []})
            for encoder in encoders:
                size = sum(shard.bytes for shard in listing.below(f"features/{teacher.name}/{encoder.name}/"))
                facts[-1]["encoders"].append({**_source_facts(encoder), "bytes": size})
        database.execute(
            f"INSERT INTO rows({_COLUMNS}) SELECT * FROM staged ORDER BY teacher, folded, sample, image_key"
        )
        database.executescript(
            "CREATE UNIQUE INDEX by_key ON rows(image_key);"
            "CREATE INDEX failed ON rows(teacher, reason) WHERE reason IS NOT NULL;"
        )
        for number, teacher_facts in enumerate(facts):
            _count(database, number, teacher_facts)
        database.execute("INSERT INTO facts VALUES (?)", (json.dumps(facts),))
        database.commit()


def _source_facts(source: Source) -> dict[str, Any]:
    return {"name": source.name, "digest": source.digest, "spec": dict(source.spec), "facts": dict(source.facts)}


def _pictures(table: pa.Table, teacher: int) -> Iterator[tuple[Any, ...]]:
    names = ["image_key", "prompt", "sample", "path", "offset", "bytes", "image_sha256", "cost_usd", "seconds"]
    for batch in table.select([*names, "attempts", "drawn_prompt"]).to_batches(max_chunksize=_BATCH):
        for key, prompt, sample, path, offset, size, digest, cost, seconds, attempts, drawn in _rows(batch):
            _check(key, digest)
            prompt = prompt or ""
            place = (path, offset, size, digest)
            facts = (cost, seconds, attempts, None, None, drawn or None)
            yield key, teacher, prompt, fold(prompt), sample, 0, *place, *facts


def _failures(table: pa.Table, teacher: int) -> Iterator[tuple[Any, ...]]:
    names = ["image_key", "prompt", "sample", "cost_usd", "attempts", "reason", "message"]
    for batch in table.select(names).to_batches(max_chunksize=_BATCH):
        for key, prompt, sample, cost, attempts, reason, message in _rows(batch):
            _check(key)
            prompt = prompt or ""
            place = (None, None, None, None)
            yield (
                key,
                teacher,
                prompt,
                fold(prompt),
                sample,
                0,
                *place,
                cost,
                None,
                attempts,
                reason or "unknown",
                message,
                None,
            )


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _check(*digests: str) -> None:
    for digest in digests:
        if not _KEY.fullmatch(digest):
            raise CacheError(
                f"expected a key of 64 hexadecimal digits, found {digest[:80]!r}; armada did not write this shard"
            )


def _count(database: sqlite3.Connection, teacher: int, facts: dict[str, Any]) -> None:
    """Add to a teacher's facts what is counted once: the range of its rows, their states and their cost."""
    where = "FROM rows WHERE teacher = ?"
    first, rows, drawn, cost, seconds, attempts = database.execute(
        "SELECT coalesce(min(number), 1), count(*), count(*) FILTER (WHERE reason IS NULL), sum(cost_usd), "
        f"sum(seconds), sum(attempts) {where}",
        (teacher,),
    ).fetchone()
    failed = dict(
        database.execute(f"SELECT reason, count(*) {where} AND reason IS NOT NULL GROUP BY reason", (teacher,))
    )
    facts |= {"first": first, "rows": rows, "drawn": drawn, "failed": failed}
    facts |= {"cost_usd": cost, "seconds": seconds, "attempts": attempts}
    for bit, encoder in enumerate(facts["encoders"]):
        encoder["features"] = database.execute(
            f"SELECT count(*) {where} AND encoders & ?", (teacher, 1 << bit)
        ).fetchone()[0]
