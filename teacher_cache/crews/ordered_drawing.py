"""A drawing whose rows come as orders: its stream of rows, its budget, and when it seals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from teacher_cache.building.background import Background
from teacher_cache.building.drawing import Drawing
from teacher_cache.building.other_hosts import OtherHosts
from teacher_cache.crews.messages import Allowance, Draw
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted


class Stream:
    """The rows of a worker's orders, as they come, in the form of a plan: `Drawing` asks it for `wanted_requests`."""

    calls = 0  # as far as is known before

    def __init__(self, first: Draw, more: Callable[[], Draw | None], claimed: Callable[[], object]) -> None:
        self._rows, self._more, self._claimed = iter(first.rows), more, claimed

    def wanted_requests(self, start: int = 0, shuffle: np.random.Generator | None = None) -> Iterator[Wanted]:
        """Yield the rows that nobody has taken yet. The order is the coordinator's."""
        while True:
            for wanted in self._rows:
                self._claimed()
                yield wanted
            order = self._more()
            if order is None:
                return
            self._rows = iter(order.rows)


class OrderedDrawing(Drawing):
    """A drawing that may spend what the worker is allowed, instead of the build's own caps."""

    allowance: Callable[[], Allowance | None]

    def _budget(self) -> Budget:
        allowance = self.allowance()
        if allowance is None:
            return super()._budget()
        return Budget(allowance.calls, allowance.usd, self.teacher.price_usd, shared=self.shared)


@dataclass
class OrderedBackground(Background):
    """Seals when the spool that the workers share is full, and not because another has just emptied it."""

    hosts: OtherHosts | None = None
    _is_last: bool = False
    _sealed_at: float = field(default_factory=time.monotonic)

    @cached_property
    def others(self) -> OtherHosts:
        """What other hosts have committed since the worker began."""
        assert self.hosts
        return self.hosts

    def seal_all(self) -> None:
        """Seal all that is in the spool, however little."""
        self._is_last = True
        self.seal()

    def wait(self) -> None:
        """Wait until what was sealed is encoded. Raises the error of a seal or an encoding, if there was one."""
        for sealed in self._seals:
            sealed.result()
        for encoded in self._encodings:
            encoded.result()

    def _seal(self) -> None:
        with self.spool.sealing:
            now = time.monotonic()
            drawn = self.spool.count(self.teacher_source.digest, "drawn")
            if (
                not self._is_last
                and drawn < self.options.seal_rows
                and now - self._sealed_at < self.options.seal_seconds
            ):
                return
            self._sealed_at = now
            super()._seal()


@dataclass
class Hosts(OtherHosts):
    """Other hosts, over all the rounds of a worker."""

    def start(self) -> None:
        """Take the commits that are here at the first round as known to the plan."""
        if self._seen:
            self.look()
        else:
            super().start()
