"""One side of a copy: a store with its commits and the files that it lists, whether or not a cache is there yet."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from teacher_cache.errors import CacheError, NoCacheError, NoFileError
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Commit
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache_json import check_format, read_source
from teacher_cache.storage.commit_log import CommitLog
from teacher_cache.storage.part import Part, read_part


@dataclass
class Side:
    """A store and the log of its commits. `has_cache` is False for a place at which a copy makes a new cache."""

    store: Store
    log: CommitLog
    has_cache: bool
    part: Part | None = None  # what a copy on this machine is a part of

    @property
    def commits(self) -> dict[str, Commit]:
        """The commits that count, by digest, as of the last refresh of the log."""
        return self.log.commits

    def sizes(self, commits: Iterable[Commit]) -> dict[str, int]:
        """Return the sizes of the files, in all folders that some commits name, that are there."""
        folders = {file.path.rpartition("/")[0] for c in commits for shard in c.added for file in shard.files()}
        return {f"{f}/{name}": size for f in sorted(folders) for name, size in self.store.sizes(f).items()}


@dataclass
class Sources:
    """The recorded teachers, encoders and rewriters of a side.

    `found` are the paths of their files with the sources, `refused` those that describe none, each with the reason.
    """

    found: dict[str, Source] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def open_side(url: str, *, make: bool = False) -> Side:
    """Open a side. Raise NoCacheError if there is no cache and none may be made, CacheError if it has another format.

    Nothing is written.
    """
    store = Store(url)
    log = CommitLog(store)
    try:
        check_format(store)
        has_cache = True
    except NoFileError:
        if store.names("commits"):
            raise CacheError(
                f"{store}: there are commits but no cache.json; run: armada cache verify "
                f"{shlex.quote(str(store))} --repair"
            ) from None
        if not make:
            raise NoCacheError(f"{store}: no cache here (no cache.json); make one by: armada cache build") from None
        has_cache = False
    log.refresh()
    return Side(store, log, has_cache, read_part(store))


def read_sources(side: Side) -> Sources:
    """Return the teachers, encoders and rewriters that a side records."""
    sources = Sources()
    for path in _source_files(side.store):
        try:
            sources.found[path] = read_source(side.store, path)
        except NoFileError:
            continue  # a folder without one
        except CacheError as error:
            sources.refused[path] = str(error)
    return sources


def _source_files(store: Store) -> Iterator[str]:
    for teacher in store.names("images"):
        yield f"images/{teacher}/teacher.json"
    for teacher in store.names("features"):
        for encoder in store.names(f"features/{teacher}"):
            yield f"features/{teacher}/{encoder}/encoder.json"
    for rewriter in store.names("rewrites"):
        yield f"rewrites/{rewriter}/rewriter.json"
