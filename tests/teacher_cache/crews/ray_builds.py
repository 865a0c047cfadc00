"""A program: a build on a Ray cluster of this machine while parts of it are killed. It prints what happened as JSON.

python -m tests.teacher_cache.crews.ray_builds FOLDER ROWS MACHINES KILLS [OPTION...]

MACHINES are names with commas; if there is one, it has room for both workers. KILLS are words with commas, one for each
equal step of the build: actor, coordinator and node (the last machine, for good) by SIGKILL, reboot (the last machine
is killed, and is back with its disk), notice (SIGTERM to an actor), or none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.teacher_cache.crews.builds import lines, start, wait_for_calls, words, write_prompts
from tests.teacher_cache.crews.namespaces import processes
from tests.teacher_cache.crews.ray_nodes import Machines


def main() -> None:
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    names, kills = tuple(sys.argv[3].split(",")), [kill for kill in sys.argv[4].split(",") if kill != "none"]
    log = folder / "log"
    environment = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.02"}
    machines = Machines(folder, names, environment, cpus=2 // len(names))
    build = words(write_prompts(folder, rows), folder / "cache", "--ray", machines.address, "--workers", 2)
    build = (*build, "--seal-rows", max(20, rows // 20), *sys.argv[5:])
    process: subprocess.Popen[str] | None = None
    out, errors, code, said = "", "", 0, ""
    try:
        for number, kill in enumerate(kills):
            if process is None:
                process = start(*build)
            wait_for_calls(log, (number + 1) * rows // (len(kills) + 1), 600)
            if kill in ("actor", "notice"):
                victim = processes("_Work", f"ARMADA_FAKE_LOG={log}")[number % 2]
                os.kill(victim, signal.SIGKILL if kill == "actor" else signal.SIGTERM)
            elif kill == "coordinator":
                process.send_signal(signal.SIGKILL)
                said += process.communicate()[1]
                process = None
            else:
                machines.kill(names[-1])
                if kill == "reboot":
                    machines.add(names[-1])
        process = process or start(*build)
        out, errors = process.communicate(timeout=900)
        code, process = process.returncode, None
    finally:
        if process:
            process.kill()
            print(said + process.communicate()[1], file=sys.stderr)
        machines.shutdown()
    report = json.loads(out) if out.startswith("{") else None
    calls = lines(log)
    facts = {"code": code, "report": report, "calls": len(calls), "unique": len(set(calls))}
    print(json.dumps({**facts, "errors": said + errors}))


if __name__ == "__main__":
    main()
