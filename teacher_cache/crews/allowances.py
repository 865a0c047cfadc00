"""Allowances: how much of one budget each worker may spend, where the workers have ledgers of their own.

The sum of what all ledgers may spend never exceeds the caps, even if all workers are killed and their ledgers are lost:
what a worker may spend counts as spent until it is idle, or a later worker on its ledger has said what was spent.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from teacher_cache.crews.messages import Allowance
from teacher_cache.format.commits import Spent

Amount = tuple[float, float]  # calls and dollars


@dataclass
class Allowances:
    """Grants parts of one budget. A worker is any name of which there is one per process; `committed` are the records
    of what all ledgers have spent for the teacher and its rewriter, of which those count here that no worker has."""

    max_calls: int | None
    max_usd: float | None
    price_usd: float | None
    committed: Sequence[Spent] = ()
    _spent: dict[str, Amount] = field(default_factory=dict)  # by ledger, as last reported
    _held: dict[Hashable, list[tuple[int, Amount]]] = field(default_factory=dict)  # by worker: order number, ceiling
    _ledgers: dict[Hashable, str] = field(default_factory=dict)  # by worker
    _dead: dict[str, list[tuple[Hashable, Amount]]] = field(default_factory=dict)  # by ledger

    @property
    def is_limited(self) -> bool:
        """Whether there is a cap."""
        return self.max_calls is not None or self.max_usd is not None

    def spent(self, worker: Hashable, ledger: str, spent: Amount, received: int, is_idle: bool) -> None:
        """Take note of a worker's report. `received` is the number of orders that it has."""
        if worker not in self._ledgers:  # it was started after those that died, and has read what they spent
            self._ledgers[worker] = ledger
            self._dead.pop(ledger, None)
        before = self._spent.get(ledger, (0, 0.0))
        self._spent[ledger] = max(before[0], spent[0]), max(before[1], spent[1])
        held = self._held.get(worker, [])
        known = [one for one in held if one[0] <= received]
        waiting = [one for one in held if one[0] > received]
        self._held[worker] = waiting if is_idle else known[-1:] + waiting

    def lost(self, worker: Hashable) -> None:
        """Take note that a worker is dead. What it was allowed counts until another has opened its ledger."""
        held = [ceiling for _, ceiling in self._held.pop(worker, [])]
        if held and (ledger := self._ledgers.get(worker)):
            self._dead.setdefault(ledger, []).extend((worker, ceiling) for ceiling in held)

    def grant(self, worker: Hashable, order: int, rows: int, waiting: int, sharers: int) -> Allowance | None:
        """Return the allowance for an order of `rows` further rows; None if the budget has no room for one call now.

        Args:
            worker: Its first report must have been noted.
            order: The number of the order, as `received` will count it.
            rows: Calls for so many rows are allowed, and some for repetitions if the budget is far away.
            waiting: Rows that the workers on this ledger have not claimed yet.
            sharers: The number of workers, who share what is left for repetitions.
        """
        ledger = self._ledgers[worker]
        price = self.price_usd or 0.0
        spent = self._spent[ledger]
        reserved = [self._reserved(one) for one in self._spent if one != ledger]
        most = [  # that this ledger may have spent in all
            (math.inf if cap is None else cap - elsewhere - sum(other[kind] for other in reserved))
            for kind, (cap, elsewhere) in enumerate(zip((self.max_calls, self.max_usd), self._elsewhere(), strict=True))
        ]
        if most[0] < spent[0] + 1 or most[1] + 1e-9 < spent[1] + price:
            return None
        needed = (spent[0] + waiting + rows, spent[1] + (waiting + rows) * price)
        spare = [max(0.0, (room - need) / (2 * sharers)) for room, need in zip(most, needed, strict=True)]
        extra = min(rows + 8, spare[0], spare[1] / price if price else math.inf)
        calls = min(most[0], needed[0] + int(extra))
        usd = min(most[1], needed[1] + int(extra) * price)
        self._held.setdefault(worker, []).append((order, (calls, usd)))
        return Allowance(
            None if self.max_calls is None else int(calls), None if self.max_usd is None else max(0.0, round(usd, 9))
        )

    def _elsewhere(self) -> Amount:
        """Return what ledgers that no worker has have spent."""
        spent: dict[tuple[str, str], Amount] = {}  # by ledger and teacher
        for record in self.committed:
            if record.ledger not in self._spent:
                name = record.ledger, record.teacher
                calls, usd = spent.get(name, (0, 0.0))
                spent[name] = max(calls, record.calls), max(usd, record.cost_usd)
        return sum(one[0] for one in spent.values()), sum(one[1] for one in spent.values())

    def _reserved(self, ledger: str) -> Amount:
        """Return what a ledger has spent or may spend."""
        ceilings = [
            ceiling for worker, held in self._held.items() if self._ledgers[worker] == ledger for _, ceiling in held
        ]
        ceilings += [ceiling for _, ceiling in self._dead.get(ledger, ())] + [self._spent[ledger]]
        return max(one[0] for one in ceilings), max(one[1] for one in ceilings)
