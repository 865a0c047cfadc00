"""A program: a study on a Ray cluster of two machines, one of whose runs and whose coordinator are killed. It prints
what happened as JSON.

python -m tests.pipelines.study.cluster.ray_study STUDY OUT
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.pipelines.cli import command, environment
from tests.teacher_cache.crews.namespaces import processes
from tests.teacher_cache.crews.ray_nodes import Machines


def is_early(process: int) -> bool:
    """Return whether an actor has just begun with its run, whose log is its standard output."""
    try:
        log = Path(os.readlink(f"/proc/{process}/fd/1"))
    except OSError:
        return False
    return log.name == "log.txt" and not (log.parent / "student").exists()


def main() -> None:
    study, out = Path(sys.argv[1]), Path(sys.argv[2])
    mark = {"ARMADA_STUDY_TEST": str(out)}
    machines = Machines(out.parent, ("one", "two"), mark)
    words = command("study", study, "--out", out, "--ray", machines.address, "--json")
    errors = []

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, env=environment(**mark), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finished() -> int:
        return len(list(out.glob("runs/*/*/outcome.json")))

    def wait_for(count: int) -> None:
        until = time.monotonic() + 600
        while finished() < count:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, f"only {finished()} runs"
            time.sleep(0.02)

    process = start()
    try:
        wait_for(1)
        victims: list[int] = []
        while not victims:
            assert process.poll() is None, process.communicate()[1]
            victims = [one for one in processes("_Actor.do", f"ARMADA_STUDY_TEST={out}") if is_early(one)]
            time.sleep(0.01)
        os.kill(victims[0], signal.SIGKILL)
        wait_for(3)
        process.send_signal(signal.SIGKILL)
        errors.append(process.communicate()[1])
        times = {str(path): path.stat().st_mtime_ns for path in out.glob("runs/*/*/outcome.json")}
        process = start()
        written, said = process.communicate(timeout=900)
        errors.append(said)
        is_untouched = all(Path(path).stat().st_mtime_ns == then for path, then in times.items())
    finally:
        process.kill()
        machines.shutdown()
    facts = {"code": process.returncode, "report": json.loads(written) if written else None, "errors": errors}
    print(json.dumps({**facts, "is_untouched": is_untouched}))


if __name__ == "__main__":
    main()
