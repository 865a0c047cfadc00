"""A program: a Ray cluster of two nodes on this machine, each with a state folder and a host name of its own, and a
build on it whose actors and coordinator are killed. Run it in a network namespace; it prints what happened as JSON.

python -m tests.teacher_cache.crews.ray_cluster FOLDER ROWS ACTOR_KILLS COORDINATOR_KILLS [OPTION...]
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.teacher_cache.crews.builds import lines, start, wait_for_calls, words, write_prompts

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_enable_metrics_collection": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


def actors(log: Path) -> list[int]:
    """Return the processes of the actors that draw into a log: Ray names them by their class."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_actor = (folder / "cmdline").read_bytes().startswith(b"ray::_Work")
            if is_actor and f"ARMADA_FAKE_LOG={log}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


def cluster_of_two(folder: Path, environment: dict[str, str]) -> Any:
    """Start two nodes, as two machines: each has a state folder, a cache home and a host name. Ray gives a node 30
    seconds to start, which is too short on a busy machine: then it is tried again."""
    from ray.cluster_utils import Cluster

    for tries in range(5, 0, -1):
        cluster = Cluster()
        try:
            for name in ("one", "two"):
                home = folder / f"machine-{name}"
                own = {
                    "XDG_STATE_HOME": str(home / "state"),
                    "XDG_CACHE_HOME": str(home / "cache"),
                    "ARMADA_HOST": f"machine-{name}",
                }
                head = {"include_dashboard": False} if name == "one" else {}
                cluster.add_node(num_cpus=1, env_vars={**environment, **own}, object_store_memory=100 << 20, **head)
            return cluster
        except Exception:
            cluster.shutdown()
            if tries == 1:
                raise


def main() -> None:
    folder, rows, actor_kills, coordinator_kills = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    log = folder / "log"
    environment = {**QUIET, "ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.02"}
    os.environ |= environment
    cluster = cluster_of_two(folder, environment)
    build = words(write_prompts(folder, rows), folder / "cache", "--ray", cluster.address, "--workers", 2)
    build = (*build, "--seal-rows", max(20, rows // 20), *sys.argv[5:])
    killed, steps = [], rows // (actor_kills + coordinator_kills + 1)
    out, errors, code, said = "", "", 0, ""
    process: subprocess.Popen[str] | None = None
    try:
        for number in range(actor_kills + coordinator_kills):
            if process is None:
                process = start(*build)
            wait_for_calls(log, (number + 1) * steps, 600)
            if number < actor_kills:
                victim = actors(log)[number % 2]
                os.kill(victim, signal.SIGKILL)
                killed.append("actor")
            else:
                process.send_signal(signal.SIGKILL)
                said += process.communicate()[1]
                process = None
                killed.append("coordinator")
        process = process or start(*build)
        out, errors = process.communicate(timeout=900)
        code, process = process.returncode, None
    finally:
        if process:
            process.kill()
            said += process.communicate()[1]
            print(said, file=sys.stderr)
        cluster.shutdown()
    report = json.loads(out) if out.startswith("{") else None
    calls = lines(log)
    facts = {"code": code, "report": report, "calls": len(calls), "unique": len(set(calls)), "killed": killed}
    print(json.dumps({**facts, "errors": said + errors}))


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)
