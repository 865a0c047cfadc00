"""The log of a cache's commits: each is read once, most of them from one checkpoint.

A checkpoint contains the raw text of commits. Each text is compared with the digest of its commit, so that a checkpoint
needs no trust and may be deleted at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.files.store import Store
from teacher_cache.format.commits import FORMAT, Commit, NewerFormatError, RefusedCommitError, parse_commit
from teacher_cache.keys import canonical_json, sha256

CHECKPOINT_AFTER = 64  # commits that are in no checkpoint
SMALL = 256  # up to so many commits, a checkpoint costs nearly nothing: it always contains all of them
LARGEST_COMMIT = 64 << 20  # bytes
_REMOTE_THREADS = 16  # they wait for the network
_NAME = re.compile(r"([0-9a-f]{64})\.json")


@dataclass
class CommitLog:
    """What was found in the folder `commits` at the last `refresh`.

    `refused` are the files that are ignored, each with the reason: commits that name anything but shards of a cache,
    and foreign files. `unreadable` are commits that may be incomplete, damaged or of a newer format: what they name is
    unknown. `absent` are the digests of commits that a checkpoint contains and the folder lacks.
    """

    store: Store
    reads_checkpoints: bool = True
    commits: dict[str, Commit] = field(default_factory=dict)  # by digest, in the order of the digests
    refused: dict[str, str] = field(default_factory=dict)  # by the name of the file
    unreadable: dict[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    _texts: dict[str, bytes] = field(default_factory=dict)  # of the listed commits that have their digest
    _parsed: dict[str, Commit | CacheError] = field(default_factory=dict)
    _folded: frozenset[str] = frozenset()  # the digests of the commits in the checkpoint
    _checkpoint: str = ""  # its name

    def refresh(self) -> None:
        """List the folders again, and read the commits that are new."""
        listed = self.store.sizes("commits")
        self.refused, self.unreadable = {}, {}
        names = {}
        for name, size in listed.items():
            match = _NAME.fullmatch(name)
            if match is None:
                self.refused[name] = "it is no commit of a cache"
            elif size > LARGEST_COMMIT:
                self.refused[name] = f"it has {size:,} bytes, and a commit has at most {LARGEST_COMMIT:,}"
            else:
                names[match[1]] = name
        unknown = [digest for digest in names if digest not in self._texts]
        if self.reads_checkpoints and (len(unknown) > 1 or not self._folded):
            self._read_checkpoint()
        self.absent = self._folded - set(names)
        for digest, data in self._read(names[digest] for digest in names if digest not in self._texts):
            if data is not None and sha256(data) == digest:
                self._texts[digest] = data
            else:
                self.unreadable[f"{digest}.json"] = "its content does not have the digest in its name"
        self.commits = {}
        for digest in sorted(names.keys() & self._texts.keys()):
            found = self._parse(digest)
            if isinstance(found, Commit):
                self.commits[digest] = found
            else:
                faults = self.unreadable if isinstance(found, NewerFormatError) else self.refused
                faults[f"{digest}.json"] = str(found)

    def text(self, digest: str) -> bytes:
        """Return the content of one of `commits`."""
        return self._texts[digest]

    def learn(self, texts: Mapping[str, bytes]) -> None:
        """Take the content of commits that were just written, by digest, so that nobody reads them again."""
        self._texts |= texts

    def is_newer(self, name: str) -> bool:
        """Return whether a file is a commit of a newer format."""
        return isinstance(self._parsed.get(name.removesuffix(".json")), NewerFormatError)

    def texts_of_checkpoint(self, name: str) -> Mapping[str, bytes]:
        """Return the texts of the commits in a checkpoint, by digest; none if it is damaged."""
        try:
            data = self.store.read(f"checkpoints/{name}")
            if f"{sha256(data)}.json" != name:
                return {}
            facts = json.loads(data)
            texts = {digest: text.encode("utf-8") for digest, text in facts["commits"].items()}
        except (CacheError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}  # it is derived: the commits are read instead
        return {digest: data for digest, data in texts.items() if sha256(data) == digest}

    def write_checkpoint(self) -> None:
        """Write a checkpoint if many commits are in none, and remove the one that it contains.

        Copies go by the alphabet, so that a checkpoint arrives before the commits and tells which are still to come.
        """
        listed = self.commits.keys()
        if len(listed - self._folded) <= (CHECKPOINT_AFTER if len(listed) > SMALL else 0):
            return
        path, data = checkpoint_file({digest: self._texts[digest] for digest in listed})
        name = path.rpartition("/")[2]
        self.store.write(path, data)
        if self._checkpoint and self._checkpoint != name and self._folded <= listed:
            self.store.remove(f"checkpoints/{self._checkpoint}")
        self._folded, self._checkpoint = frozenset(listed), name

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint, if it contains commits that are gone."""
        if self.absent:
            self.store.remove(f"checkpoints/{self._checkpoint}")
            self._folded, self._checkpoint, self.absent = frozenset(), "", frozenset()

    def _parse(self, digest: str) -> Commit | CacheError:
        if digest not in self._parsed:
            try:
                self._parsed[digest] = parse_commit(digest, self._texts[digest])
            except (NewerFormatError, RefusedCommitError) as error:
                self._parsed[digest] = error
        return self._parsed[digest]

    def _read_checkpoint(self) -> None:
        """Take the texts of the largest checkpoint that is sound; without one, all commits are read one by one."""
        listed = self.store.sizes("checkpoints")
        if self._checkpoint not in listed:
            self._folded, self._checkpoint = frozenset(), ""
        for name in sorted(listed, key=lambda name: (-listed[name], name)):
            if name == self._checkpoint:
                return
            texts = self.texts_of_checkpoint(name)
            if texts:
                self._texts |= texts
                self._folded, self._checkpoint = frozenset(texts), name
                return

    def _read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield the digests in the names of some commits with their bytes, None for a file that can't be read."""

        def read(name: str) -> tuple[str, bytes | None]:
            try:
                return name.removesuffix(".json"), self.store.read(f"commits/{name}")
            except NoFileError:
                return name.removesuffix(".json"), None

        if self.store.is_local:
            yield from map(read, names)
            return
        with ThreadPoolExecutor(_REMOTE_THREADS, "armada-commits") as pool:
            yield from pool.map(read, names)


def checkpoint_file(texts: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the path and the content of the checkpoint of some commits, given by their digests."""
    commits = {digest: texts[digest].decode("utf-8") for digest in sorted(texts)}
    data = canonical_json({"format": FORMAT, "commits": commits})
    return f"checkpoints/{sha256(data)}.json", data
