"""Decoded matrices: built once per machine, complete or not at all, and removed only if no process reads them."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from teacher_cache import CacheError
from teacher_cache.reading.matrix_store import acquire, folders, limit_bytes

SIZE = 1000


@pytest.fixture
def home(tmp_path):
    return tmp_path / "matrices"


def builder(calls, name="x", seconds=0.0):
    def build(draft):
        calls.append(name)
        time.sleep(seconds)
        (draft / "features.npy").write_bytes(bytes(SIZE))

    return build


def test_one_builds_and_the_others_wait(home):
    calls = []
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda _: acquire(home, "x", SIZE, builder(calls, seconds=0.2)), range(8)))
    assert calls == ["x"]
    assert {lease.path for lease in leases} == {home / "x"}


def test_a_killed_builder_leaves_no_folder_and_the_next_process_builds_it(home):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom teacher_cache.reading.matrix_store import acquire\n"
        "def build(draft):\n    (draft / 'features.npy').write_bytes(b'half')\n    print('half', flush=True)\n"
        "    time.sleep(60)\nacquire(Path(sys.argv[1]), 'x', 10, build)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert folders(home) == []
    calls = []
    lease = acquire(home, "x", SIZE, builder(calls))
    assert (calls, len((lease.path / "features.npy").read_bytes())) == (["x"], SIZE)
    assert list(home.glob(".draft-*")) == []


def test_a_builder_that_fails_leaves_no_folder_and_the_next_one_tries_again(home):
    def fail(draft):
        raise CacheError("damaged shard")

    with pytest.raises(CacheError, match="damaged shard"):
        acquire(home, "x", SIZE, fail)
    assert folders(home) == []
    assert acquire(home, "x", SIZE, builder([])).path.exists()


def test_the_least_recently_used_matrix_of_all_caches_is_removed_first(home):
    homes = {name: home / f"cache-{name}" for name in "abc"}
    for age, name in enumerate("abc"):
        lease = acquire(homes[name], name, SIZE, builder([]))
        os.utime(lease.path / "in-use", (age, age))
        del lease
    acquire(homes["a"], "a", SIZE, builder([]))  # opened again: b is the least recently used now
    acquire(homes["a"], "new", SIZE, builder([]), limit=3 * SIZE + 100)
    left = [path.name for home in homes.values() for path in folders(home)]
    assert left == ["a", "new", "c"]


def test_a_matrix_in_use_is_never_removed(home):
    lease = acquire(home, "used", SIZE, builder([]))
    os.utime(lease.path / "in-use", (0, 0))
    acquire(home, "new", SIZE, builder([]), limit=SIZE + 100)
    assert [path.name for path in folders(home)] == ["new", "used"]
    del lease
    acquire(home, "newer", SIZE, builder([]), limit=SIZE + 100)
    assert [path.name for path in folders(home)] == ["newer"]


def test_a_matrix_in_use_by_another_process_is_never_removed(home):
    code = (
        "import sys\nfrom pathlib import Path\nfrom teacher_cache.reading.matrix_store import acquire\n"
        "lease = acquire(Path(sys.argv[1]), 'used', 1, lambda draft: None)\n"
        "print('acquired', flush=True)\nsys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(home)], **pipes) as process:
        assert process.stdout.readline() == "acquired\n"
        acquire(home, "new", SIZE, builder([]), limit=SIZE)
        assert "used" in [path.name for path in folders(home)]
        process.stdin.close()
    acquire(home, "newer", SIZE, builder([]), limit=SIZE)
    assert [path.name for path in folders(home)] == ["newer"]


def test_the_error_for_a_matrix_larger_than_the_limit_names_the_remedies(home):
    with pytest.raises(CacheError, match=r"take 1,000 bytes, more than the 999 .* raise ARMADA_MATRIX_BYTES, or read"):
        acquire(home, "x", SIZE, builder([]), limit=999)


def test_the_limit_is_read_from_an_environment_variable(monkeypatch):
    monkeypatch.setenv("ARMADA_MATRIX_BYTES", "1e9")
    assert limit_bytes() == 1_000_000_000
    monkeypatch.setenv("ARMADA_MATRIX_BYTES", "much")
    with pytest.raises(CacheError, match="expected a number of bytes, found 'much'"):
        limit_bytes()


def test_a_folder_that_the_user_removed_no_longer_counts(home):
    lease = acquire(home, "x", SIZE, builder([]))
    for path in [*lease.path.iterdir(), lease.path]:
        path.unlink() if path.is_file() else path.rmdir()
    acquire(home, "y", SIZE, builder([]), limit=SIZE)
    links = Path(os.environ["XDG_CACHE_HOME"]) / "armada" / "matrices"
    assert len(list(links.iterdir())) == 1
