"""A Ray cluster: the connection to it, the room on its machines, and actors there. Ray is imported only here.

The machines need this program, the weights, and the variables that hold keys: nothing secret is sent to them. All that
was started here ends with this process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from teacher_cache.errors import ArmadaError
from teacher_cache.registry.packages import import_package

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
        if not is_given or not name or not 0 <= amount < float("inf"):
            raise ArmadaError(f"--ray-options: expected NAME=NUMBER,..., for example num_gpus=1, found {part!r}")
        if name in (*_NAMES, "memory"):
            options[name] = amount
        else:
            options.setdefault("resources", {})[name] = amount
    return options


class RayCluster:
    """The cluster at an address, on which each actor takes the resources of `options`. Use it as a context manager.

    `ray` is the package. Raises ArmadaError on entering if no cluster answers, or none of its machines has room.
    """

    def __init__(self, address: str, options: Mapping[str, Any] | None = None) -> None:
        self.ray: Any = import_package("ray", distribution="ray", extra="ray", purpose="--ray")
        self.options = dict(options or {"num_cpus": 1.0})
        self._address = address
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> RayCluster:
        with contextlib.ExitStack() as stack:
            # Ray prints what the workers print and what it thinks of the cluster; a command's own output has no room.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if not self.ray.is_initialized():
                try:
                    _knock(self._address)
                    self.ray.init(address=self._address, logging_level="ERROR", log_to_driver=True)
                except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                    raise ArmadaError(
                        f"--ray {self._address}: no Ray cluster answers there: {str(error).splitlines()[0]}; expected "
                        "HOST:PORT as `ray start --head` prints it, or auto on a machine of the cluster"
                    ) from None
                stack.callback(self.ray.shutdown)
            if not self.room(1):
                nodes = [{name: node.get(name, 0) for name in self._needed()} for node in self._resources()]
                raise ArmadaError(f"--ray-options: no machine of the cluster has {self._needed()}; they have {nodes}")
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def room(self, most: int) -> int:
        """Return how many actors fit on the machines that the cluster has now; `most` if nothing limits them."""
        needed = self._needed()
        counts = [
            min((int(node.get(name, 0) // amount) for name, amount in needed.items()), default=most)
            for node in self._resources()
        ]
        return min(most, sum(counts))

    def _needed(self) -> dict[str, float]:
        """Return what an actor takes, by Ray's name of it."""
        needed = {_NAMES[name]: self.options[name] for name in _NAMES if self.options.get(name)}
        return needed | {name: amount for name, amount in self.options.get("resources", {}).items() if amount}

    def _resources(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def nodes(self) -> list[str]:
        """Return Ray's ids of the machines that are there now."""
        return [str(node["NodeID"]) for node in self.ray.nodes() if node["Alive"]]

    def on_node(self, node: str, *, soft: bool) -> Any:
        """Return the scheduling strategy that means a machine; with `soft` any other, if that one has gone."""
        return self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=soft)

    def actor(self, kind: type, *arguments: object, node: str = "", calls: int = 1) -> Any:
        """Start an actor of a class that can be imported on all machines; on the machine `node`, if that is there.

        `calls` of its methods may run at once. It is never started again by Ray.
        """
        place: Any = self.on_node(node, soft=True) if node else "SPREAD"
        options = {**self.options, "max_concurrency": calls, "max_restarts": 0, "max_task_retries": 0}
        return self.ray.remote(kind).options(scheduling_strategy=place, **options).remote(*arguments)


def settle_in(folder: str) -> None:
    """On a machine of the cluster: use the coordinator's working folder, where that is here too, and leave its standard
    output alone."""
    sys.stdout = sys.stderr
    if os.path.isdir(folder):
        os.chdir(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT, which Ray would find out in minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), 10).close()
