"""A cache: the union of its commits. Shards are immutable and named by their content; a commit is written last, so a
crash leaves at worst a file that no commit names. Adding takes no lock and no server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.errors import CacheError
from teacher_cache.keys import canonical_json, sha256, spec_digest
from teacher_cache.packaged import file_digest
from teacher_cache.shards import FAILURE_COLUMNS, IMAGE_COLUMNS, read_table, write_table
from teacher_cache.store import Store

FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """A file that a commit added: its path in the cache, size, rows and digest."""

    path: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A teacher or an encoder of a cache: the spec in words, its digest and its folder's name."""

    spec: Mapping[str, Any]
    digest: str
    facts: Mapping[str, Any]  # licence, price

    @property
    def name(self) -> str:
        """`kind-digest`, as its folder is called."""
        kind = re.sub(r"[^a-z0-9]+", "-", str(self.spec.get("kind", "custom")).lower()).strip("-")
        return f"{kind}-{self.digest[:16]}"


def source_of(spec: Mapping[str, Any], **facts: Any) -> Source:
    """The source that a spec describes."""
    return Source(spec, spec_digest(spec), facts)


class Cache:
    """A cache opened for reading and adding. Create one with `Cache(url, create=True)`."""

    def __init__(self, url: str, *, create: bool = False) -> None:
        self.store = Store(url)
        if not self.store.exists("cache.json"):
            if not create:
                raise CacheError(f"{self.store}: no cache here (no cache.json); make one by: armada cache build")
            self.store.write("cache.json", canonical_json({"format": FORMAT, "made_by": "armada"}))
        found = _json(self.store, "cache.json").get("format")
        if found != FORMAT:
            raise CacheError(f"{self.store}/cache.json: expected format {FORMAT}, found {found!r}; update armada")

    @cached_property
    def machine_folder(self) -> Path:
        """What belongs to this cache on this machine alone."""
        return self.store.machine_folder()

    # Sources

    def register(self, teacher: Source, encoder: Source | None = None) -> None:
        """Write the teacher's and the encoder's spec beside their shards, unless they are there."""
        folders = [(f"images/{teacher.name}/teacher.json", teacher)]
        if encoder:
            folders.append((f"features/{teacher.name}/{encoder.name}/encoder.json", encoder))
        for path, source in folders:
            if not self.store.exists(path):
                text = json.dumps({"digest": source.digest, "spec": source.spec, **source.facts}, indent=1)
                self.store.write(path, text.encode("utf-8"))

    def teachers(self) -> list[Source]:
        """All teachers with a folder here."""
        return [self._source(f"images/{name}/teacher.json") for name in self.store.list("images")]

    def encoders(self, teacher: Source) -> list[Source]:
        """All encoders that read this teacher's pictures."""
        folder = f"features/{teacher.name}"
        return [self._source(f"{folder}/{name}/encoder.json") for name in self.store.list(folder)]

    def _source(self, path: str) -> Source:
        facts = dict(_json(self.store, path))
        spec = facts.pop("spec", None)
        digest = facts.pop("digest", None)
        if not isinstance(spec, dict) or spec_digest(spec) != digest:
            raise CacheError(
                f"{self.store}/{path}: the digest {digest!r} is not that of the spec; the file was changed"
            )
        return Source(spec, digest, facts)

    # Commits

    def shards(self, folder: str) -> list[Shard]:
        """The shards under a folder that commits added and none replaced, sorted by path."""
        added: dict[str, Shard] = {}
        replaced: set[str] = set()
        for name in self.store.list("commits"):
            path = f"commits/{name}"
            data = self.store.read(path)
            if sha256(data) != name.removesuffix(".json"):
                raise CacheError(f"{self.store}/{path}: the content doesn't have the digest in its name")
            commit = json.loads(data)
            added.update((entry["path"], Shard(**entry)) for entry in commit["added"])
            replaced.update(commit["replaced"])
        return [added[path] for path in sorted(set(added) - replaced) if path.startswith(f"{folder}/")]

    def add(self, draft: Path, folder: str, suffix: str, rows: int, name: str = "") -> Shard:
        """Publish a draft as a shard named by its content (or by `name`). It counts once a commit names it."""
        digest = file_digest(draft)
        shard = Shard(f"{folder}/{name or digest[:32]}{suffix}", draft.stat().st_size, rows, digest)
        self.store.publish(draft, shard.path)
        return shard

    def commit(self, added: Sequence[Shard], *, by: str, at: str, replaced: Iterable[str] = ()) -> str:
        """Make shards count, all at once. Returns the commit's digest."""
        data = canonical_json(
            {
                "format": FORMAT,
                "added": [asdict(shard) for shard in sorted(added, key=lambda shard: shard.path)],
                "replaced": sorted(replaced),
                "by": by,
                "at": at,
            }
        )
        self.store.write(f"commits/{sha256(data)}.json", data)
        return sha256(data)

    # Rows

    def images(self, teacher: Source) -> pa.Table:
        """The index of a teacher's pictures, one row a key (IMAGE_COLUMNS and the tar's `path`).

        Where a merge brought two pictures for one key, the one of the smallest digest counts. The rows of a missing
        shard are missing.
        """
        tables = []
        for shard in self.shards(f"images/{teacher.name}/shards"):
            if shard.path.endswith(".parquet"):
                tar = shard.path.removesuffix(".parquet") + ".tar"
                table = self.table(shard)
                if table is not None and self.store.exists(tar):
                    tables.append(table.append_column("path", pa.array([tar] * table.num_rows, pa.string())))
        schema = IMAGE_COLUMNS.append(pa.field("path", pa.string()))
        return _first_of_each_key(pa.concat_tables(tables) if tables else schema.empty_table())

    def failures(self, teacher: Source) -> pa.Table:
        """Failures by key (FAILURE_COLUMNS), the one with the most attempts where there are several. A success beats
        any failure: subtract `images` from them."""
        shards = self.shards(f"failures/{teacher.name}")
        tables = [table for shard in shards if (table := self.table(shard)) is not None]
        table = pa.concat_tables(tables) if tables else FAILURE_COLUMNS.empty_table()
        latest = table.sort_by([("attempts", "descending"), ("message", "ascending")])
        return _first_of_each_key(latest, presorted=True)

    def feature_keys(self, teacher: Source, encoder: Source) -> pa.Table:
        """image_key and image_sha256 of the features at hand; a key may stand twice, with different pictures."""
        shards = self.shards(f"features/{teacher.name}/{encoder.name}/shards")
        columns = ["image_key", "image_sha256"]
        tables = [table for shard in shards if (table := self.table(shard, columns)) is not None]
        empty = pa.schema([(name, pa.string()) for name in columns]).empty_table()
        return pa.concat_tables(tables) if tables else empty

    def table(self, shard: Shard, columns: Sequence[str] | None = None, *, check: bool = False) -> pa.Table | None:
        """A Parquet shard's rows, without the file's metadata; None where the file is missing.

        The size is always compared with the commit, the digest where all columns are read or `check` is set. Raises
        CacheError where they differ.
        """
        if not self.store.exists(shard.path):
            return None
        with self.store.open(shard.path) as stream:
            size = stream.seek(0, 2)
            if size != shard.bytes:
                raise CacheError(f"{self.store}/{shard.path}: expected {shard.bytes} bytes, found {size}; {_MEND}")
            stream.seek(0)
            if check or columns is None:
                data = stream.read()
                if sha256(data) != shard.sha256:
                    raise CacheError(f"{self.store}/{shard.path}: sha256 differs from the commit's; {_MEND}")
                stream = pa.BufferReader(data)
            return read_table(stream, f"{self.store}/{shard.path}", columns).replace_schema_metadata(None)

    def write_shard(self, folder: str, table: pa.Table, name: str = "") -> Shard:
        """Write a table as a Parquet shard; a commit has to name it before it counts."""
        with self.store.draft() as draft:
            write_table(draft, table)
            return self.add(draft, folder, ".parquet", table.num_rows, name)


_MEND = "move the file aside and run the build again, which fills the gap"


def _first_of_each_key(table: pa.Table, *, presorted: bool = False) -> pa.Table:
    if pc.count_distinct(table["image_key"]).as_py() == table.num_rows:
        return table
    if not presorted:
        table = table.sort_by([("image_key", "ascending"), ("image_sha256", "ascending")])
    first = pc.index_in(pc.unique(table["image_key"]), table["image_key"].combine_chunks())
    return table.take(first)


def _json(store: Store, path: str) -> dict[str, Any]:
    try:
        value = json.loads(store.read(path))
    except ValueError as error:
        raise CacheError(f"{store}/{path}: no readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise CacheError(f"{store}/{path}: expected a JSON object, found {type(value).__name__}")
    return value
