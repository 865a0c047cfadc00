"""Workers as actors of a Ray cluster, each on its machine's own spool. Ray is imported only here.

The machines need this program, the teacher's and the encoder's weights, and the variables that hold keys: nothing
secret is sent to them. The actors die with the coordinator; what they have drawn is in their spools, and the same
command goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from teacher_cache.crews.leftovers import commit_leftovers
from teacher_cache.crews.messages import Order, Report, Setup
from teacher_cache.crews.worker import Worker
from teacher_cache.errors import ArmadaError
from teacher_cache.registry.packages import import_package

_TICK_S = 0.1  # between two exchanges with a worker that gets no orders
_PREPARE_S = 600.0
_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU"}  # what Ray calls the resources of these options


def ray_options(text: str) -> dict[str, Any]:
    """Return what each actor takes of its machine, from `num_gpus=1,num_cpus=2,NAME=1`: by default one CPU.

    Raises ArmadaError if the text can't be read.
    """
    options: dict[str, Any] = {"num_cpus": 1.0}
    for part in filter(None, text.split(",")):
        name, is_given, value = part.strip().partition("=")
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not is_given or not name or amount < 0:
            raise ArmadaError(f"--ray-options: expected NAME=NUMBER,..., for example num_gpus=1, found {part!r}")
        if name in (*_NAMES, "memory"):
            options[name] = amount
        else:
            options.setdefault("resources", {})[name] = amount
    return options


class RayCrew:
    """Workers as actors on the cluster at an address, as many as `size`, each with the resources of `options`."""

    shares_spool = False

    def __init__(self, address: str, size: int, options: Mapping[str, Any] | None = None) -> None:
        self.size = size
        self._ray: Any = import_package("ray", distribution="ray", extra="ray", purpose="--ray")
        self._address, self._options = address, dict(options or {"num_cpus": 1.0})
        self._handles: dict[int, _Actor] = {}  # by slot
        self._connected = False

    def __enter__(self) -> RayCrew:
        if not self._ray.is_initialized():
            try:
                _knock(self._address)
                self._ray.init(address=self._address, logging_level="ERROR", log_to_driver=True)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise ArmadaError(
                    f"--ray {self._address}: no Ray cluster answers there: {str(error).splitlines()[0]}; expected "
                    "HOST:PORT as `ray start --head` prints it, or auto on a machine of the cluster"
                ) from None
            self._connected = True
        self._check_room()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles.values():
            handle.kill()
        if self._connected:
            self._ray.shutdown()

    def _check_room(self) -> None:
        needed = {_NAMES[name]: self._options[name] for name in _NAMES if self._options.get(name)}
        needed |= self._options.get("resources", {})
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(
            min((int(node.get(name, 0) // amount) for name, amount in needed.items() if amount), default=self.size)
            for node in nodes
        )
        if not room:
            raise ArmadaError(
                f"--ray-options: no machine of the cluster has {needed}; they have "
                f"{[{name: node.get(name, 0) for name in needed} for node in nodes]}"
            )
        if room < self.size:
            print(f"--workers {self.size}: the cluster has room for {room} at once", file=sys.stderr)

    def prepare(self, setup: Setup) -> None:
        """Commit what earlier builds have left on each machine of the cluster, also where no worker will be."""
        ray = self._ray
        tasks = []
        for node in ray.nodes():
            if node["Alive"]:
                place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
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
        place: Any = "SPREAD"
        if before:
            before.kill()
            if before.node:
                place = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(before.node, soft=True)
        kind = self._ray.remote(_Work)
        actor = kind.options(
            max_concurrency=4, max_restarts=0, max_task_retries=0, scheduling_strategy=place, **self._options
        ).remote(setup, os.getcwd())
        self._handles[setup.slot] = _Actor(self._ray, actor)
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
        _settle_in(folder)
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


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT, which Ray would find out in minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), 10).close()


def _commit_leftovers(setup: Setup, folder: str) -> None:
    _settle_in(folder)
    commit_leftovers(setup)


def _settle_in(folder: str) -> None:
    """Use the coordinator's working folder, where that is here too, and leave its standard output alone."""
    sys.stdout = sys.stderr
    if os.path.isdir(folder):
        os.chdir(folder)
        if folder not in sys.path:
            sys.path.append(folder)
