"""Commits: which shards count together, what they replace, what was spent, who added them and when.

A commit is canonical JSON, named by its SHA-256. What is read from one is checked here, so that a commit written by
somebody else can name only files of a cache: all other code trusts a `Commit`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from teacher_cache.errors import CacheError
from teacher_cache.keys import canonical_json

FORMAT = 2
REWRITES_FORMAT = 3  # of a commit that names rewritten prompts: an older armada stops instead of ignoring it
_NAME = r"[a-z0-9-]{1,250}"  # of a teacher's or an encoder's folder
_PATHS = (
    re.compile(rf"images/(?P<teacher>{_NAME})/shards/(?P<digest>[0-9a-f]{{32}})\.tar"),
    re.compile(rf"features/{_NAME}/{_NAME}/shards/(?P<digest>[0-9a-f]{{32}})\.parquet"),
    re.compile(rf"failures/{_NAME}/(?P<digest>[0-9a-f]{{32}})\.parquet"),
    re.compile(rf"rewrites/{_NAME}/shards/(?P<digest>[0-9a-f]{{32}})\.parquet"),
)
_INDEX = re.compile(rf"images/(?P<teacher>{_NAME})/indexes/(?P<digest>[0-9a-f]{{32}})\.parquet")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHARD_FIELDS = {"path": str, "bytes": int, "rows": int, "sha256": str}
_LARGEST = 1 << 62


@dataclass(frozen=True)
class Shard:
    """A file that a commit added: its path in the cache, its size in bytes, its number of rows and its SHA-256.

    `index` describes the rows of a tar; other shards have none.
    """

    path: str
    bytes: int
    rows: int
    sha256: str
    index: Shard | None = None

    def files(self) -> Iterator[Shard]:
        """Yield the shard and its index, if it has one."""
        yield self
        if self.index:
            yield self.index


@dataclass(frozen=True, order=True)
class Entry:
    """A shard as one commit added it. The same path, added by another commit, is another entry."""

    commit: str  # the commit's digest
    path: str


@dataclass(frozen=True, order=True)
class Spent:
    """All calls ever made from one ledger for a teacher, and their cost in dollars.

    Both only grow, so that reading the same or an older record again adds nothing. `ledger` is the token of a host's
    work on a cache, `teacher` the digest of a teacher's spec.
    """

    ledger: str
    teacher: str
    calls: int
    cost_usd: float


@dataclass(frozen=True)
class Commit:
    """Shards that count together, from the moment at which the commit is written.

    `replaced` are the entries whose rows `added` contains: they no longer count while `added` is there. `lost` are
    entries whose files were known to be gone: a build no longer waits for them, and they count again if they return.
    `by` is USER@HOST, `at` an ISO 8601 time in UTC, and `prompts` names where the prompts came from.
    """

    digest: str
    added: tuple[Shard, ...]
    replaced: tuple[Entry, ...] = ()
    lost: tuple[Entry, ...] = ()
    spent: tuple[Spent, ...] = ()
    by: str = ""
    at: str = ""
    prompts: str = ""


class RefusedCommitError(CacheError):
    """A commit has the digest in its name, but not the content of a commit: it is ignored as a whole."""


class NewerFormatError(CacheError):
    """A file was written by a newer armada, in a format that this one can't read."""


def commit_bytes(
    added: Iterable[Shard],
    *,
    replaced: Iterable[Entry] = (),
    lost: Iterable[Entry] = (),
    spent: Iterable[Spent] = (),
    by: str,
    at: str,
    prompts: str = "",
) -> bytes:
    """Return the content of a commit, the same for the same facts in any order."""
    added, replaced = list(added), list(replaced)
    facts: dict[str, Any] = {
        "format": _format_of([*added, *replaced]),
        "added": [_shard_facts(shard) for shard in sorted(added, key=lambda shard: shard.path)],
        "replaced": [asdict(entry) for entry in sorted(set(replaced))],
        "spent": [asdict(record) for record in sorted(set(spent))],
        "by": by,
        "at": at,
        "prompts": prompts,
    }
    gone = sorted(set(lost))
    return canonical_json(facts | ({"lost": [asdict(entry) for entry in gone]} if gone else {}))


def _format_of(named: Iterable[Shard | Entry]) -> int:
    return REWRITES_FORMAT if any(one.path.startswith("rewrites/") for one in named) else FORMAT


def _shard_facts(shard: Shard) -> dict[str, Any]:
    facts: dict[str, Any] = {name: getattr(shard, name) for name in _SHARD_FIELDS}
    return facts | ({"index": _shard_facts(shard.index)} if shard.index else {})


def parse_commit(digest: str, data: bytes) -> Commit:
    """Return the commit with this content, whose digest the caller has checked.

    Raise NewerFormatError if a newer armada wrote it, and RefusedCommitError if it is not what `commit_bytes` writes or
    names anything but files of a cache by their content.
    """
    try:
        facts = json.loads(data)
        if isinstance(facts, dict) and type(facts.get("format")) is int and facts["format"] > REWRITES_FORMAT:
            found = facts["format"]
            raise NewerFormatError(f"it has format {found}, and this armada knows {REWRITES_FORMAT}; update armada")
        if canonical_json(facts) != data:
            raise RefusedCommitError("it is no canonical JSON")
        added, replaced = tuple(_shards(facts["added"])), tuple(_entries(facts["replaced"]))
        if type(facts["format"]) is not int or facts["format"] != _format_of([*added, *replaced]):
            raise RefusedCommitError(f"it is not of format {_format_of([*added, *replaced])}")
        _check_removals(added, replaced)
        return Commit(
            digest,
            added,
            replaced,
            tuple(_entries(facts.get("lost", []))),
            tuple(_spent(facts["spent"])),
            *(_text(facts, name) for name in ("by", "at", "prompts")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedCommitError(f"it is no commit: {type(error).__name__}: {error}"[:200]) from None


def _shards(values: Any) -> Iterator[Shard]:
    paths = set()
    for facts in _list(values):
        shard = _shard(facts, _PATHS)
        if shard.path in paths:
            raise RefusedCommitError(f"it adds {shard.path} twice")
        paths.add(shard.path)
        if shard.path.endswith(".tar"):
            index = _shard(facts["index"], (_INDEX,))
            if index.path.split("/")[1] != shard.path.split("/")[1] or index.rows != shard.rows:
                raise RefusedCommitError(f"the index {index.path} is not that of {shard.path}")
            shard = Shard(shard.path, shard.bytes, shard.rows, shard.sha256, index)
        elif "index" in facts:
            raise RefusedCommitError(f"it names an index of {shard.path}, which is no tar")
        yield shard


def _shard(facts: Mapping[str, Any], patterns: Iterable[re.Pattern[str]]) -> Shard:
    for name, kind in _SHARD_FIELDS.items():
        if type(facts[name]) is not kind:
            raise TypeError(f"{name} of a shard")
    return check_shard(Shard(*(facts[name] for name in _SHARD_FIELDS)), patterns)


def check_shard(shard: Shard, patterns: Iterable[re.Pattern[str]] = _PATHS) -> Shard:
    """Return a shard if its path is one of a cache and has its digest; raise RefusedCommitError otherwise."""
    match = next(filter(None, (pattern.fullmatch(shard.path) for pattern in patterns)), None)
    if match is None:
        raise RefusedCommitError(f"it names {shard.path!r}, which is no shard of a cache")
    if not _DIGEST.fullmatch(shard.sha256) or match["digest"] != shard.sha256[:32]:
        raise RefusedCommitError(f"{shard.path} is not named by its content")
    if not (0 <= shard.bytes < _LARGEST and 0 <= shard.rows < _LARGEST):
        raise RefusedCommitError(f"{shard.path} has no possible size")
    return shard


def _entries(values: Any) -> Iterator[Entry]:
    for facts in _list(values):
        if not _DIGEST.fullmatch(facts["commit"]) or not isinstance(facts["path"], str):
            raise TypeError("an entry")
        yield Entry(facts["commit"], facts["path"])


def _check_removals(added: Iterable[Shard], replaced: Iterable[Entry]) -> None:
    """Raise RefusedCommitError if a commit replaces pictures or failures by nothing: only features may lose rows."""
    folders = {shard.path.rpartition("/")[0] for shard in added}
    for entry in replaced:
        if not entry.path.startswith("features/") and entry.path.rpartition("/")[0] not in folders:
            raise RefusedCommitError(f"it replaces {entry.path} by nothing")


def _spent(values: Any) -> Iterator[Spent]:
    for facts in _list(values):
        record = Spent(facts["ledger"], facts["teacher"], facts["calls"], facts["cost_usd"])
        named = isinstance(record.ledger, str) and _DIGEST.fullmatch(record.teacher)
        if not named or type(record.calls) is not int or type(record.cost_usd) not in (int, float):
            raise TypeError("a record of what was spent")
        if not (0 <= record.calls < _LARGEST and 0 <= record.cost_usd < _LARGEST):
            raise RefusedCommitError("it records calls or a cost that can't be")
        yield record


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError("expected a list")
    return values


def _text(facts: Mapping[str, Any], name: str) -> str:
    if not isinstance(facts[name], str):
        raise TypeError(f"{name} is no text")
    return str(facts[name])
