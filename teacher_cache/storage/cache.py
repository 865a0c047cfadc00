"""A cache: the union of its commits.

Shards are immutable and named by their content. A commit is written after its shards, so that a crash leaves at worst
a file that no commit names. Adding needs neither a lock nor a server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa

from teacher_cache.errors import CacheError, NoCacheError, NoFileError, repair_hint
from teacher_cache.files.crash_points import crash_point
from teacher_cache.files.store import Store
from teacher_cache.files.user_folders import derived_folder
from teacher_cache.format.arrow import all_differ, concat, first_of_each
from teacher_cache.format.columns import DRAWN_PROMPT, FAILURE_COLUMNS, IMAGE_COLUMNS
from teacher_cache.format.commits import Commit, Entry, Shard, Spent, commit_bytes, parse_commit
from teacher_cache.format.shards import write_table
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.registry.packages import file_digest
from teacher_cache.storage.cache_json import CACHE_JSON, check_format, read_source
from teacher_cache.storage.commit_log import CommitLog
from teacher_cache.storage.part import Part, left_out_sizes, read_part
from teacher_cache.storage.shard_tables import in_turn, read_shard
from teacher_cache.storage.state import CacheState, cache_state, spent_in

TRIES = 3  # to read shards that another process removes meanwhile


class Cache:
    """A cache opened for reading and adding. `Cache(url, create=True)` creates it if it does not exist.

    What it returns is the state at its last `refresh`; opening and committing refresh it. Raise NoCacheError if there
    is no cache at the URL, CacheError if it has another format.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self.store = Store(url)
        self.log = CommitLog(self.store)
        self.part: Part | None = None  # what this copy is a part of, as of `state`
        self._state: CacheState | None = None
        self._is_fresh = False  # whether the log was refreshed since the last commit
        self._lock = threading.RLock()
        try:
            check_format(self.store)
        except NoFileError:
            if self.store.names("commits"):
                raise CacheError(
                    f"{self.store}: there are commits but no cache.json; wait until the copy is complete, or "
                    + repair_hint(build_again=False)
                ) from None
            if not create:
                raise NoCacheError(
                    f"{self.store}: no cache here (no cache.json); make one by: armada cache build"
                ) from None
            self.store.write("cache.json", CACHE_JSON)

    @cached_property
    def derived_folder(self) -> Path:
        """The folder for what this user computed from the cache on this host: decoded features, aligners, catalogues.

        It is in the user's cache folder, and may be deleted at any time.
        """
        return derived_folder(self.store.identity)

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
        """Return the source that a teacher.json or encoder.json describes; see `read_source`."""
        return read_source(self.store, path)

    # Commits

    def refresh(self) -> None:
        """List commits and files again when they are needed next: other processes may have added some."""
        with self._lock:
            self._state, self._is_fresh = None, False

    @property
    def state(self) -> CacheState:
        """What counts in the cache, as it was at the last refresh."""
        with self._lock:
            if self._state is None:
                commits = self.commits()
                listed = self.listing(commits)
                self.part = read_part(self.store)
                self._state = cache_state(commits, listed, left_out_sizes(self.part, commits, listed))
            return self._state

    def listing(self, commits: Iterable[Commit]) -> dict[str, int]:
        """Return the sizes of the files in all folders that some commits name, from one listing per folder."""
        folders = {file.path.rpartition("/")[0] for c in commits for shard in c.added for file in shard.files()}
        return {f"{f}/{name}": size for f in sorted(folders) for name, size in self.store.sizes(f).items()}

    def commits(self) -> list[Commit]:
        """Return all commits that count, sorted by digest; `log` names the files that are ignored."""
        with self._lock:
            if not self._is_fresh:
                self.log.refresh()
                self._is_fresh = True
            return list(self.log.commits.values())

    def spent(self, teacher_digest: str, without: str = "") -> tuple[int, float]:
        """Return the calls that all ledgers but one have committed for a teacher, and their cost in dollars."""
        return spent_in(self.commits(), teacher_digest, without)

    def shards(self, folder: str = "") -> list[Shard]:
        """Return the live shards below a folder whose files are there, sorted by path. See `CacheState`.

        Of a copy that is a part, features that were left out are not among them, but pictures are: their index tells
        what a build need not draw, and reading them raises PartError.
        """
        state = self.state
        found = (s for path, s in state.live.items() if path.startswith(folder) and state.is_readable(s))
        return [s for s in found if not (s.path in state.left_out and s.path.startswith("features/"))]

    def absent(self, error: NoFileError, path: str) -> CacheError:
        """Return the error to raise for a file that does not exist: another one if it was left out on purpose."""
        return self.part.error(str(self.store), path) if self.part and path in self.state.left_out else error

    def add(self, draft: Path, folder: str, suffix: str, rows: int, digest: str = "") -> Shard:
        """Publish a draft as a shard named by its content, of which the SHA-256 may be known. It counts as soon as a
        commit names it."""
        digest = digest or file_digest(draft)
        shard = Shard(f"{folder}/{digest[:32]}{suffix}", draft.stat().st_size, rows, digest)
        self.store.publish(draft, shard.path)
        return shard

    def write_shard(self, folder: str, table: pa.Table) -> Shard:
        """Write a table as a Parquet shard. It counts as soon as a commit names it."""
        with self.store.draft() as draft:
            write_table(draft, table)
            return self.add(draft, folder, ".parquet", table.num_rows)

    def commit(
        self,
        added: Sequence[Shard],
        *,
        by: str,
        at: str,
        replaced: Iterable[Entry] = (),
        lost: Iterable[Entry] = (),
        spent: Iterable[Spent] = (),
        prompts: str = "",
    ) -> str:
        """Write a commit, from which on its shards count, all at once. Return its digest. See `Commit`.

        Raise RefusedCommitError, and write nothing, if readers would ignore the commit.
        """
        data = commit_bytes(added, replaced=replaced, lost=lost, spent=spent, by=by, at=at, prompts=prompts)
        parse_commit(sha256(data), data)
        crash_point("cache.commit")
        self.store.write(f"commits/{sha256(data)}.json", data)
        crash_point("cache.committed")
        self.refresh()
        return sha256(data)

    # Rows

    def images(self, teacher: Source, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the index of a teacher's pictures, one row per key: IMAGE_COLUMNS and `path`, the tar's path.

        With `columns`, which may have `drawn_prompt`, return only these, image_key and image_sha256. If a key has
        several pictures, the one with the smallest digest is canonical, and only its row is returned. The rows of
        missing shards are left out.
        """
        schema = IMAGE_COLUMNS.append(pa.field("path", pa.dictionary(pa.int32(), pa.string())))
        names = schema.names if columns is None else list(dict.fromkeys(["image_key", "image_sha256", *columns]))
        found = self.tables(f"images/{teacher.name}/", [name for name in names if name != "path"], check=True)
        paths = pa.array([shard.path for shard, _ in found], pa.string())
        tables = []
        for number, (_, table) in enumerate(found):
            path = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(number, pa.int32()), table.num_rows), paths)
            tables.append(table.append_column("path", path).select(names))
        table = concat(tables, pa.schema([schema.append(DRAWN_PROMPT).field(name) for name in names]))
        if all_differ(table["image_key"]):
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

    def tables(
        self, folder: str, columns: Sequence[str] | None = None, *, check: bool = False
    ) -> list[tuple[Shard, pa.Table]]:
        """Return the live shards below a folder with the tables of their rows; see `table`.

        If another process removes one meanwhile (it compacted the cache), all are listed and read again. Raise
        NoFileError if one is removed at each try.
        """
        read = partial(self.table, columns=columns, check=check)
        for tries in range(TRIES, 0, -1):
            try:
                shards = self.shards(folder)
                return list(zip(shards, in_turn(self.store, shards, read), strict=True))
            except NoFileError:
                if tries == 1:
                    raise
                self.refresh()
        return []

    def table(self, shard: Shard, columns: Sequence[str] | None = None, *, check: bool = False) -> pa.Table:
        """Return the rows of a shard, of a tar those of its index, without the file's metadata.

        The size and the checksum of each page are always compared; the file's digest is compared if all columns are
        read or `check` is set. Raise CacheError if one differs or the columns are not those of the folder, and
        NoFileError if the file does not exist.
        """
        try:
            return read_shard(self.store, shard, columns, check=check)
        except NoFileError as error:
            raise self.absent(error, (shard.index or shard).path) from None
