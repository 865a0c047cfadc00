"""A crew: the workers of a build as their coordinator sees them. `processes` and `ray_actors` are the two kinds."""

from __future__ import annotations

from typing import Protocol

from teacher_cache.crews.messages import Order, Report, Setup


class Handle(Protocol):
    """One worker. It may die at any time."""

    def send(self, order: Order) -> None:
        """Send an order; nothing happens if the worker is dead."""
        ...

    def report(self) -> Report:
        """Return its newest report, without waiting; an empty one before the first."""
        ...

    def is_alive(self) -> bool:
        """Return whether it can still report. Its last report may be read afterwards."""
        ...


class Crew(Protocol):
    """Starts workers, one per slot at a time. Use it as a context manager, which leaves no worker behind."""

    size: int  # workers
    shares_spool: bool  # with the coordinator; else the workers' ledgers are other ones, perhaps on other machines

    def __enter__(self) -> Crew: ...

    def __exit__(self, *_: object) -> None: ...

    def prepare(self, setup: Setup) -> None:
        """Commit what earlier builds have left on the workers' machines, before the plan is made."""
        ...

    def start(self, setup: Setup) -> Handle:
        """Start the worker of a slot, the first one or one in the place of a dead one."""
        ...
