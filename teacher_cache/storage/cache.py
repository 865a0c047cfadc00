"""A cache: the union of its commits.

Shards are immutable and named by their content. A commit is written after its shards, so that a crash leaves at worst
a file that no commit names. Adding needs neither a lock nor a server.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from teacher_cache.errors import CacheError, NoCacheError, NoFileError, repair_hint
from teacher_cache.format.arrow import all_differ, concat, first_of_each
from teacher_cache.format.commits import Commit, Shard, tar_of
from teacher_cache.format.shards import FAILURE_COLUMNS, IMAGE_COLUMNS, read_table, write_table
from teacher_cache.format.sources import Source
from teacher_cache.keys import canonical_json, sha256, spec_digest
from teacher_cache.registry.packages import file_digest
from teacher_cache.storage.crash_points import crash_point
from teacher_cache.storage.store import Store

FORMAT = 1
CACHE_JSON = canonical_json({"format": FORMAT, "made_by": "armada"})


class Cache:
    """A cache opened for reading and adding. `Cache(url, create=True)` creates it if it does not exist.

    Raise NoCacheError if there is no cache at the URL, CacheError if it has another format.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self.store = Store(url)
        self._commits: dict[str, Commit] = {}
        if not self.store.exists("cache.json"):
            if not create:
                raise NoCacheError(f"{self.store}: no cache here (no cache.json); make one by: armada cache build")
            self.store.write("cache.json", CACHE_JSON)
        found = read_json(self.store, "cache.json").get("format")
        if found != FORMAT:
            raise CacheError(f"{self.store}/cache.json: expected format {FORMAT}, found {found!r}; update armada")

    @cached_property
    def machine_folder(self) -> Path:
        """The folder for this machine's files of the cache: its spool, decoded features and aligners."""
        return self.store.machine_folder()

    # Sources

    def register(self, teacher: Source, encoder: Source | None = None) -> None:
        """Write the specs of a teacher and an encoder into the folders of their shards, unless they exist."""
        folders = [(f"images/{teacher.name}/teacher.json", teacher)]
        if encoder:
            folders.append((f"features/{teacher.name}/{encoder.name}/encoder.json", encoder))
        for path, source in folders:
            if not self.store.exists(path):
                text = json.dumps({"digest": source.digest, "spec": source.spec, **source.facts}, indent=1)
                self.store.write(path, text.encode("utf-8"))

    def teachers(self) -> list[Source]:
        """Return all teachers that have drawn into this cache. Raise CacheError if a recorded spec was changed."""
        paths = [f"images/{name}/teacher.json" for name in self.store.names("images")]
        return [self.source(path) for path in paths if self.store.exists(path)]

    def encoders(self, teacher: Source) -> list[Source]:
        """Return all encoders of this teacher's pictures. Raise CacheError if a recorded spec was changed."""
        folder = f"features/{teacher.name}"
        paths = [f"{folder}/{name}/encoder.json" for name in self.store.names(folder)]
        return [self.source(path) for path in paths if self.store.exists(path)]

    def source(self, path: str) -> Source:
        """Return the source that a teacher.json or encoder.json describes. Raise CacheError if the file was changed."""
        facts = dict(read_json(self.store, path))
        spec, digest = facts.pop("spec", None), facts.pop("digest", None)
        if not isinstance(spec, dict) or spec_digest(spec) != digest:
            raise CacheError(f"{self.store}/{path}: the digest {digest!r} is not that of the spec; {repair_hint()}")
        return Source(spec, digest, facts)

    # Commits

    def commits(self) -> list[Commit]:
        """List all commits; each is read only once. Raise CacheError if one was changed."""
        names = self.store.names("commits")
        for name in names:
            if name not in self._commits:
                self._commits[name] = self.read_commit(f"commits/{name}")
        return [self._commits[name] for name in names]

    def read_commit(self, path: str) -> Commit:
        """Return a commit. Raise CacheError if the file's digest is not the one in its name."""
        data = self.store.read(path)
        if sha256(data) != path.rpartition("/")[2].removesuffix(".json"):
            raise CacheError(f"{self.store}/{path}: the content doesn't have the digest in its name; {repair_hint()}")
        facts = json.loads(data)
        added = tuple(Shard(**entry) for entry in facts["added"])
        return Commit(added, tuple(facts["replaced"]), facts["by"], facts["at"], facts.get("prompts", ""))

    def shards(self, folder: str = "") -> list[Shard]:
        """Return the live shards below a folder, sorted by path; see `live`."""
        return [shard for shard in self.live(self.commits()) if shard.path.startswith(folder)]

    def live(self, commits: Sequence[Commit]) -> list[Shard]:
        """Return the live shards of some commits, sorted by path: those that are added and not replaced.

        A commit replaces shards only while each shard that it added exists or is itself replaced. If a compacted shard
        is lost, the shards that it replaced are live again.
        """
        replaced: set[str] = set()
        pending = [commit for commit in commits if commit.replaced]
        while pending:
            effective = [c for c in pending if all(s.path in replaced or self.store.exists(s.path) for s in c.added)]
            if not effective:
                break
            replaced.update(path for commit in effective for path in commit.replaced)
            pending = [commit for commit in pending if commit not in effective]
        live = {shard.path: shard for commit in commits for shard in commit.added if shard.path not in replaced}
        return [live[path] for path in sorted(live)]

    def add(self, draft: Path, folder: str, suffix: str, rows: int, path: str = "") -> Shard:
        """Publish a draft as a shard named by its content, or at `path`. It counts as soon as a commit names it."""
        digest = file_digest(draft)
        shard = Shard(path or f"{folder}/{digest[:32]}{suffix}", draft.stat().st_size, rows, digest)
        self.store.publish(draft, shard.path)
        return shard

    def write_shard(self, folder: str, table: pa.Table, path: str = "") -> Shard:
        """Write a table as a Parquet shard. It counts as soon as a commit names it."""
        with self.store.draft() as draft:
            write_table(draft, table)
            return self.add(draft, folder, ".parquet", table.num_rows, path)

    def commit(
        self, added: Sequence[Shard], *, by: str, at: str, replaced: Iterable[str] = (), prompts: str = ""
    ) -> str:
        """Write a commit, so that its shards count, all at once. Return the commit's digest.

        `by`, `at` and `prompts` come from `Provenance.now`; `replaced` are the paths of shards that no longer count.
        """
        facts = {
            "format": FORMAT,
            "added": [asdict(shard) for shard in sorted(added, key=lambda shard: shard.path)],
            "replaced": sorted(replaced),
            "by": by,
            "at": at,
            "prompts": prompts,
        }
        data = canonical_json(facts)
        crash_point("cache.commit")
        self.store.write(f"commits/{sha256(data)}.json", data)
        crash_point("cache.committed")
        return sha256(data)

    # Rows

    def images(self, teacher: Source, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the index of a teacher's pictures, one row per key: IMAGE_COLUMNS and `path`, the tar's path.

        With `columns`, return only these, image_key and image_sha256. If a key has several pictures, the one with the
        smallest digest is canonical, and only its row is returned. The rows of missing shards are left out.
        """
        schema = IMAGE_COLUMNS.append(pa.field("path", pa.dictionary(pa.int32(), pa.string())))
        names = schema.names if columns is None else list(dict.fromkeys(["image_key", "image_sha256", *columns]))
        stored = [name for name in names if name != "path"]
        found = []
        for folder in (f"images/{teacher.name}/shards/", f"features/{teacher.name}/"):
            found += self.tables(folder, stored, indexes=True)
        paths = pa.array([tar_of(shard.path) for shard, _ in found], pa.string())
        tables = []
        for number, (_, table) in enumerate(found):
            path = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(number, pa.int32()), table.num_rows), paths)
            tables.append(table.append_column("path", path).select(names))
        table = concat(tables, pa.schema([schema.field(name) for name in names]))
        if len(tables) < 2 or all_differ(table["image_key"]):
            return table
        ordered = table.sort_by([("image_key", "ascending"), ("image_sha256", "ascending")])
        return first_of_each(ordered, "image_key")

    def failures(self, teacher: Source) -> pa.Table:
        """Return the failures of a teacher (FAILURE_COLUMNS), one row per key: the one with the most attempts.

        A key may have a picture too, and then its failure does not count: the caller removes the keys of `images`.
        """
        tables = [table for _, table in self.tables(f"failures/{teacher.name}/")]
        table = concat(tables, FAILURE_COLUMNS).sort_by([("attempts", "descending"), ("message", "ascending")])
        return first_of_each(table, "image_key")

    def feature_keys(self, teacher: Source, encoder: Source) -> pa.Table:
        """Return image_key and image_sha256 of all features. A key may occur twice, with different pictures."""
        columns = ["image_key", "image_sha256"]
        found = self.tables(f"features/{teacher.name}/{encoder.name}/shards/", columns)
        return concat([table for _, table in found], pa.schema([(name, pa.string()) for name in columns]))

    def tables(
        self, folder: str, columns: Sequence[str] | None = None, *, indexes: bool = False, tries: int = 3
    ) -> list[tuple[Shard, pa.Table]]:
        """Return the Parquet shards below a folder with their tables; with `indexes`, only the indexes of tars.

        Missing shards, and indexes whose tar is missing, are left out. If one is missing and the commits have changed
        meanwhile (another process compacted the cache), all tables are read again, at most `tries` times in all.
        """
        shards = self.shards(folder)
        wanted = [shard for shard in shards if shard.path.endswith(".parquet") and (tar_of(shard.path) or not indexes)]
        found = []
        for shard in wanted:
            table, tar = self.table(shard, columns, check=indexes), tar_of(shard.path)
            if table is not None and (not tar or self.store.exists(tar)):
                found.append((shard, table))
        if len(found) < len(wanted) and tries > 1 and self.shards(folder) != shards:
            return self.tables(folder, columns, indexes=indexes, tries=tries - 1)
        return found

    def table(self, shard: Shard, columns: Sequence[str] | None = None, *, check: bool = False) -> pa.Table | None:
        """Return the table of a Parquet shard, without the file's metadata, or None if the file is missing.

        The size and the checksum of each page are always compared; the file's digest is compared if all columns are
        read or `check` is set. Raise CacheError if one differs.
        """
        if not self.store.exists(shard.path):
            return None
        with contextlib.suppress(NoFileError), self.store.open(shard.path) as stream:
            size = stream.seek(0, 2)
            if size != shard.bytes:
                raise CacheError(
                    f"{self.store}/{shard.path}: expected {shard.bytes} bytes, found {size}; {repair_hint()}"
                )
            stream.seek(0)
            source: Any = stream
            if check or columns is None:
                data = stream.read()
                if sha256(data) != shard.sha256:
                    raise CacheError(f"{self.store}/{shard.path}: sha256 differs from the commit's; {repair_hint()}")
                source = pa.BufferReader(data)
            return read_table(source, f"{self.store}/{shard.path}", columns).replace_schema_metadata(None)
        return None  # another process removed it after the check above


def read_json(store: Store, path: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raise CacheError if the file has none, NoFileError if it does not exist."""
    try:
        value = json.loads(store.read(path))
    except ValueError as error:
        raise CacheError(f"{store}/{path}: no readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise CacheError(f"{store}/{path}: expected a JSON object, found {type(value).__name__}")
    return value
