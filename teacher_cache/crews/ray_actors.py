"""Workers as actors of a Ray cluster, each on its machine's own spool.

The actors die with the coordinator; what they have drawn is in their spools, and the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from teacher_cache.crews.leftovers import commit_leftovers
from teacher_cache.crews.messages import Order, Report, Setup
from teacher_cache.crews.ray_cluster import RayCluster, settle_in
from teacher_cache.crews.worker import Worker
from teacher_cache.errors import ArmadaError
from teacher_cache.registry.packages import import_package

_TICK_S = 0.1  # between two exchanges with a worker that gets no orders
_PREPARE_S = 600.0


class RayCrew:
    """Workers as actors on the cluster at an address, as many as `size`, each with the resources of `options`."""

    shares_spool = False

    def __init__(self, address: str, size: int, options: Mapping[str, Any] | None = None) -> None:
        self.size = size
        self.cluster = RayCluster(address, options)
        self._handles: dict[int, _Actor] = {}  # by slot

    def __enter__(self) -> RayCrew:
        self.cluster.__enter__()
        room = self.cluster.room(self.size)
        if room < self.size:
            print(f"--workers {self.size}: the cluster has room for {room} at once", file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles.values():
            handle.kill()
        self.cluster.__exit__()

    def prepare(self, setup: Setup) -> None:
        """Commit what earlier builds have left on each machine of the cluster, also where no worker will be."""
        ray = self.cluster.ray
        tasks = []
        for node in self.cluster.nodes():
            place = self.cluster.on_node(node, soft=False)
            task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=place)(_commit_leftovers)
            tasks.append(task.remote(setup, os.getcwd()))
        for task in tasks:
            try:
                ray.get(task, timeout=_PREPARE_S)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ArmadaError):
                    raise ArmadaError(str(error.cause)) from None
                raise
            except ray.exceptions.RayError as error:  # the machine has gone
                print(f"--ray: a machine left the cluster: {str(error).splitlines()[0]}", file=sys.stderr)

    def start(self, setup: Setup) -> _Actor:
        """Start an actor; in the place of a dead one on the same machine, if that is there, because its spool is."""
        before = self._handles.get(setup.slot)
        if before:
            before.kill()
        actor = self.cluster.actor(_Work, setup, os.getcwd(), node=before.node if before else "", calls=4)
        self._handles[setup.slot] = _Actor(self.cluster.ray, actor)
        return self._handles[setup.slot]


class _Actor:
    """One worker's actor. Orders and reports go back and forth in one call at a time, whose end is not waited for."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.node = ""  # Ray's id of its machine
        self._report = Report()
        self._orders: list[Order] = []
        self._is_alive = True
        self._sent_at = 0.0
        self._work = actor.work.remote()
        self._call: Any = None

    def send(self, order: Order) -> None:
        """Send an order with the next call."""
        self._orders.append(order)

    def report(self) -> Report:
        """Return the newest report."""
        if not self._is_alive:
            return self._report
        try:
            if self._call is not None:
                if not self._ray.wait([self._call], timeout=0)[0]:
                    return self._report
                self.node, self._report = self._ray.get(self._call)
                self._call = None
            if not self._report.has_ended and self._ray.wait([self._work], timeout=0)[0]:
                self._ray.get(self._work)  # raises what ended it, unless its last report is under way
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayTaskError):
                print(error, file=sys.stderr)
            self._is_alive = False
            return self._report
        if self._orders or time.monotonic() - self._sent_at >= _TICK_S:
            self._call = self._actor.exchange.remote(self._orders)
            self._orders, self._sent_at = [], time.monotonic()
        return self._report

    def is_alive(self) -> bool:
        """Return whether the actor can still report, as far as is known."""
        return self._is_alive

    def kill(self) -> None:
        """End the actor at once."""
        with contextlib.suppress(Exception):  # it may be dead, or the cluster gone
            self._ray.kill(self._actor)
        self._is_alive = False


class _Work:
    """The worker inside an actor."""

    def __init__(self, setup: Setup, folder: str) -> None:
        settle_in(folder)
        self._worker = Worker(setup)
        stop = lambda *_: threading.Thread(target=self._worker.stop).start()  # noqa: E731
        with contextlib.suppress(ValueError):  # Ray may have made this object on another thread than the main one
            signal.signal(signal.SIGTERM, stop)

    def work(self) -> None:
        """Work until there is no more to do."""
        self._worker.run()

    def exchange(self, orders: Sequence[Order]) -> tuple[str, Report]:
        """Take orders. Return Ray's id of this machine, and a report."""
        for order in orders:
            self._worker.give(order)
        ray: Any = import_package("ray", distribution="ray", extra="ray", purpose="--ray")
        return str(ray.get_runtime_context().get_node_id()), self._worker.report()


def _commit_leftovers(setup: Setup, folder: str) -> None:
    settle_in(folder)
    commit_leftovers(setup)
