"""The team: the workers that run, and those that take the place of killed ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from teacher_cache.crews.allowances import Allowances, Amount
from teacher_cache.crews.crew import Crew, Handle
from teacher_cache.crews.messages import End, Order, Report, Setup
from teacher_cache.errors import ArmadaError
from teacher_cache.spool.run_log import Counts

_DEATHS = 5  # in a row, of workers of one slot that had done nothing: something is wrong on its machine
_START_S = 60.0  # that a worker has to commit what the one before it left
_RATE_S = 1.0  # over which a worker's rate is measured


@dataclass
class Member:
    """One worker, by the number of those started so far, and what was ordered from it."""

    name: int
    slot: int
    handle: Handle
    report: Report = field(default_factory=Report)
    sent: int = 0  # orders
    rows_per_s: float = 0.0
    is_heir: bool = False  # started in the place of a dead one
    born: float = field(default_factory=time.monotonic)
    _ordered: int = 0  # rows
    _measured: tuple[float, int] = field(
        default_factory=lambda: (time.monotonic(), 0)
    )  # when, and rows claimed by then

    @property
    def waiting(self) -> int:
        """The rows that it was given and has not claimed, also those that are still under way to it."""
        return self.report.waiting if self.report.received == self.sent else max(0, self._ordered - self.report.claimed)

    @property
    def is_idle(self) -> bool:
        """Whether all that it was told to do is done and committed."""
        return self.report.is_ready and self.report.received == self.sent and self.report.is_idle

    def send(self, order: Order) -> None:
        """Give it an order."""
        self.sent += 1
        rows = getattr(order, "rows", ())
        self._ordered = self.waiting + self.report.claimed + len(rows)
        self.handle.send(order)

    def look(self) -> None:
        """Read its newest report."""
        self.report = self.handle.report()
        now, (then, claimed) = time.monotonic(), self._measured
        if now - then >= _RATE_S:
            self.rows_per_s = (self.report.claimed - claimed) / (now - then)
            self._measured = now, self.report.claimed


class Team:
    """All workers of a crew, started at once. Raises ArmadaError in `raise_error` if one had an error in words."""

    def __init__(self, crew: Crew, setup: Setup, allowances: Allowances | None) -> None:
        self.size = crew.size
        self.deaths = 0
        self._crew, self._setup, self._allowances = crew, setup, allowances
        self._started = 0
        self._vain = [0] * crew.size  # deaths in a row of workers that had done nothing, by slot
        self._shown: dict[str, tuple[Callable[[int], object], int]] = {}  # by the beginning of a label
        self._of_dead: list[Report] = []  # their last ones
        self._spent: dict[str, tuple[Amount, Amount]] = {}  # by ledger: as first and as last reported
        self._is_ending = False
        self.members = [self._start(slot) for slot in range(crew.size)]

    def _start(self, slot: int) -> Member:
        self._started += 1
        handle = self._crew.start(replace(self._setup, slot=slot))
        return Member(self._started, slot, handle, is_heir=self._started > self.size)

    @property
    def ledgers(self) -> frozenset[str]:
        """The ledgers of all workers so far."""
        return frozenset(self._spent)

    def look(self) -> None:
        """Read the reports, replace dead workers, and update the bars. Raises ArmadaError if a worker had one, or if
        workers die before they have done anything, again and again."""
        for place, member in enumerate(self.members):
            is_alive = member.handle.is_alive()
            member.look()
            report = member.report
            if report.ledger:
                self._note_spent(report)
                if self._allowances:
                    self._allowances.spent(member.name, report.ledger, report.spent, report.received, member.is_idle)
            if member.report.error:
                self.raise_error()
            if not is_alive and not member.report.has_ended:
                self._bury(member)
                if not self._is_ending:
                    self.members[place] = self._start(member.slot)
            elif member.report.has_ended and not self._is_ending:  # it alone had a notice of termination
                self._bury(member)
                self.members[place] = self._start(member.slot)
        for label, (update, before) in self._shown.items():
            count = self._count(label)
            if count > before:
                update(count - before)
                self._shown[label] = update, count

    def _bury(self, member: Member) -> None:
        self.deaths += 1
        self._of_dead.append(member.report)
        if self._allowances:
            self._allowances.lost(member.name)
        if not self._is_ending:
            print(f"warning: worker {member.slot} ended before its time; another one takes its place", file=sys.stderr)
        self._vain[member.slot] = 0 if member.report.counts else self._vain[member.slot] + 1
        if self._vain[member.slot] >= _DEATHS and not self._is_ending:
            raise ArmadaError(
                f"--workers: worker {member.slot} ended {_DEATHS} times before it had done anything; its messages are "
                "above, and the same command without --workers shows more"
            )

    def show(self, label: str, update: Callable[[int], object] | None) -> None:
        """Call `update` with the units done from now on under the labels that begin with `label`; None ends it."""
        if update:
            self._shown[label] = update, self._count(label)
        else:
            self._shown.pop(label, None)

    def _count(self, label: str) -> int:
        return sum(n for one in self._reports() for name, n in one.counts.items() if name.startswith(label))

    def _reports(self) -> list[Report]:
        """Return the last reports of all workers so far, also of the dead."""
        return self._of_dead + [member.report for member in self.members]

    def _note_spent(self, report: Report) -> None:
        first, last = self._spent.get(report.ledger, (report.spent, report.spent))
        if report.spent[0] >= last[0]:  # workers on one ledger report it one after the other
            self._spent[report.ledger] = first, report.spent

    def counts(self) -> Counts:
        """Return what all workers have done so far, for the log of runs."""
        reports = self._reports()
        calls = int(sum(last[0] - first[0] for first, last in self._spent.values()))
        usd = sum(last[1] - first[1] for first, last in self._spent.values())
        return Counts(sum(one.drawn for one in reports), sum(one.failed for one in reports), calls, round(usd, 9))

    def refused(self) -> int:
        """Return the number of features of ordered pictures that were refused."""
        return sum(one.refused for one in self._reports())

    def has_lost_tars(self) -> bool:
        """Return whether a tar was not there any more when a worker wanted to read it."""
        return any(member.report.has_lost_tars for member in self.members)

    def is_idle(self) -> bool:
        """Return whether all that was ordered is done and committed. A worker that starts may still have to commit what
        a dead one left in its spool, unless all workers have the same spool."""
        return all(one.is_idle or self._needs_no_wait(one) for one in self.members)

    def _needs_no_wait(self, member: Member) -> bool:
        if member.sent or member.report.is_ready:
            return False
        age = time.monotonic() - member.born
        return self._crew.shares_spool or not member.is_heir or age > _START_S

    def end(self, *, at_once: bool) -> None:
        """Tell the workers to end; with `at_once`, as soon as their calls in flight have ended."""
        if not self._is_ending:
            self._is_ending = True
            for member in self.members:
                member.send(End(at_once))

    def wait(self) -> None:
        """Wait until all workers that have begun have ended or died. One that hasn't has no order, and perhaps no
        machine with room for it; its crew ends it."""
        waiting = [member for member in self.members if member.report.is_ready]
        while waiting:
            for member in waiting:
                is_alive = member.handle.is_alive()
                member.look()
                if member.report.ledger:
                    self._note_spent(member.report)
                if member.report.has_ended or not is_alive:
                    waiting = [one for one in waiting if one is not member]
            time.sleep(0.02)

    def raise_error(self) -> None:
        """Raise the first error that a worker had in words."""
        for member in self.members:
            if member.report.error:
                error = ArmadaError(member.report.error)
                error.exit_code = member.report.exit_code
                raise error
