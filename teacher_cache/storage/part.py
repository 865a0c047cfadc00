"""A part of a cache: a copy that lacks files on purpose, and records which, so that nobody takes them for lost.

`part.json` is in the copy's root folder, which no commit can name. A file that it names and that is there is not left
out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from teacher_cache.errors import CacheError
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Commit
from teacher_cache.keys import canonical_json
from teacher_cache.storage.cache_json import read_json

PART_JSON = "part.json"


class PartError(CacheError):
    """A file was left out of this copy of a cache on purpose: it is at the URL that the copy was pulled from."""


@dataclass(frozen=True)
class Part:
    """What a copy is a part of.

    `of` is the URL that it was pulled from, without secrets; `chosen` names in words what was taken; `left_out` are the
    paths of the files that were not.
    """

    of: str
    chosen: str
    left_out: frozenset[str]

    def error(self, where: str, path: str) -> PartError:
        """Return the error for a file that is needed and was left out; `where` is the copy."""
        return PartError(
            f"{where}/{path}: left out of this copy on purpose, which has a part of {self.of} ({self.chosen}); nothing "
            f"was drawn or paid again: fetch the rest by: armada cache pull {shlex.quote(self.of)} "
            f"{shlex.quote(str(where))}"
        )


def read_part(store: Store) -> Part | None:
    """Return what a local cache is a part of, None if it is a whole one. Raise CacheError if the record is damaged."""
    path = store.local_path(PART_JSON)
    if path is None or not path.exists():
        return None
    facts = read_json(store, PART_JSON)
    of, chosen, paths = facts.get("of"), facts.get("chosen"), facts.get("left_out")
    if not isinstance(of, str) or not isinstance(chosen, str) or not isinstance(paths, list):
        raise CacheError(
            f"{store}/{PART_JSON}: expected the record of a partial copy; remove the file, and pull again what this "
            "copy should have"
        )
    return Part(_one_line(of), _one_line(chosen), frozenset(path for path in paths if isinstance(path, str)))


def write_part(store: Store, part: Part) -> None:
    """Record what a copy is a part of, or that it is a whole one if nothing is left out."""
    if part.left_out:
        facts = {"of": part.of, "chosen": part.chosen, "left_out": sorted(part.left_out)}
        store.write(PART_JSON, json.dumps(json.loads(canonical_json(facts)), indent=1).encode())
    else:
        store.remove(PART_JSON)


def left_out_sizes(part: Part | None, commits: Iterable[Commit], listed: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes in bytes of the files of commits that were left out and are not there, by path."""
    if part is None:
        return {}
    files = (file for commit in commits for shard in commit.added for file in shard.files())
    return {file.path: file.bytes for file in files if file.path in part.left_out and file.path not in listed}


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:500]
