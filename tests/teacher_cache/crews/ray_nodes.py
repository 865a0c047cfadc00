"""A Ray cluster on this machine whose nodes are as machines: each with a state folder, a cache home and a host name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


class Machines:
    """A cluster with nodes by name. Each has `cpus` CPUs; the first one is the head."""

    def __init__(self, folder: Path, names: tuple[str, ...], environment: dict[str, str], cpus: int = 1) -> None:
        os.environ |= QUIET | environment
        self._folder, self._environment, self._cpus = folder, QUIET | environment, cpus
        self._nodes: dict[str, Any] = {}
        for tries in range(5, 0, -1):  # Ray gives a node 30 seconds to start, too short on a busy machine
            self._start_cluster()
            try:
                for name in names:
                    self.add(name)
                return
            except Exception:
                self.shutdown()
                if tries == 1:
                    raise

    def _start_cluster(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster()
        self._nodes = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, name: str) -> None:
        """Start a machine; with the name of one that was killed, it has that one's disk."""
        home = self._folder / f"machine-{name}"
        own = {"XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}
        own |= {"ARMADA_HOST": f"machine-{name}"}
        head = {} if self._nodes else {"include_dashboard": False}
        self._nodes[name] = self._cluster.add_node(
            num_cpus=self._cpus, env_vars={**self._environment, **own}, object_store_memory=100 << 20, **head
        )

    def kill(self, name: str) -> None:
        """Kill all processes of a machine at once."""
        self._cluster.remove_node(self._nodes[name], allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()
