"""What other hosts add to a cache while a build runs: it is seen after each seal, and not requested again.

Two builds of the same prompts would request the same rows at the same time, in the order of the prompts. As soon as one
sees the other, it takes what is left in an order of its own, so that they share the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from teacher_cache.building.plan import Plan
from teacher_cache.errors import CacheError
from teacher_cache.format.sources import Source
from teacher_cache.spool.rows import Wanted
from teacher_cache.storage.cache import Cache


@dataclass
class OtherHosts:
    """The image keys of a teacher that other ledgers have committed since the build's plan; `token` is its own, and
    `ours` are those of the workers beside it."""

    cache: Cache
    teacher: Source
    token: str
    keys: set[str] = field(default_factory=set)
    ours: frozenset[str] = frozenset()
    _seen: set[str] = field(default_factory=set)  # digests of commits

    def start(self) -> None:
        """Take the commits that are here now as known to the plan."""
        self._seen = {commit.digest for commit in self.cache.commits()}

    def look(self) -> None:
        """Read the keys of the pictures and failures that others have committed since the last look.

        What can't be read now is requested, as if nobody had committed it.
        """
        self.cache.refresh()
        columns = {"images": "image_key", "failures": "image_key", "rewrites": "rewrite_key"}
        folders = tuple(f"{kind}/{self.teacher.name}/" for kind in columns)
        for commit in self.cache.commits():
            if commit.digest in self._seen:
                continue
            self._seen.add(commit.digest)
            if any(record.ledger == self.token or record.ledger in self.ours for record in commit.spent):
                continue
            for shard in commit.added:
                if shard.path.startswith(folders):
                    try:
                        column = columns[shard.path.partition("/")[0]]
                        self.keys |= set(self.cache.table(shard, [column], check=True)[column].to_pylist())
                    except CacheError:
                        continue


class RequestQueue:
    """The requests of a plan that no other host has made meanwhile: in the order of the prompts, until `others` has
    committed something. `skipped` is called for each that another has made."""

    def __init__(self, plan: Plan, others: OtherHosts, skipped: Callable[[], object]) -> None:
        self._plan, self._taken, self._rows = plan, 0, plan.wanted_requests()
        self._others, self._skipped, self._is_shared = others, skipped, False

    def __iter__(self) -> Iterator[Wanted]:
        return self

    def __next__(self) -> Wanted:
        """Return the next request."""
        if self._others.keys and not self._is_shared:
            self._is_shared = True
            generator = np.random.default_rng(int(self._others.token or "0", 16))
            self._rows = self._plan.wanted_requests(self._taken, generator)
        for wanted in self._rows:
            self._taken += 1
            if wanted.request.image_key not in self._others.keys:
                return wanted
            self._skipped()
        raise StopIteration
