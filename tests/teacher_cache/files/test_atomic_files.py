"""A file appears complete or not at all: after an error, after a kill, and for readers during a write."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from teacher_cache import atomic_file, atomic_write, sweep_drafts, user_folder

KILLED = """
import os, sys
from pathlib import Path
os.environ["ARMADA_CRASH_POINT"] = sys.argv[2]
from teacher_cache import atomic_write
atomic_write(Path(sys.argv[1]), b"new" * 1000)
"""


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_creates_the_folder_replaces_the_file_and_leaves_nothing_else(tmp_path, durable):
    path = tmp_path / "a" / "b" / "file.json"
    atomic_write(path, b"old", durable=durable)
    atomic_write(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_a_plain_one(tmp_path):
    (tmp_path / "plain").write_bytes(b"x")
    atomic_write(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def write_half(path):
    with atomic_file(path) as draft:
        draft.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise RuntimeError("interrupted")


def test_an_error_during_a_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="interrupted"):
        write_half(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_write_syncs_the_file_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(handle):
        steps.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("rename"), replace(*paths)))
    atomic_write(tmp_path / "file", b"x")
    assert steps[1:] == ["rename", tmp_path]
    assert steps[0].suffix == ".draft"
    steps.clear()
    atomic_write(tmp_path / "file", b"x", durable=False)
    assert steps == ["rename"]


@pytest.mark.parametrize(
    ("point", "expected"), [("store.draft", b"old"), ("store.rename", b"old"), ("store.renamed", b"new" * 1000)]
)
def test_a_kill_during_a_write_leaves_the_old_or_the_new_file(tmp_path, point, expected):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    run = subprocess.run([sys.executable, "-c", KILLED, str(path), point], check=False)
    assert run.returncode == -signal.SIGKILL
    assert path.read_bytes() == expected


def test_sweep_removes_the_drafts_of_killed_writes_and_no_other_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(path), "store.draft"], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    assert sweep_drafts(tmp_path) == 0  # it may still be written
    assert sweep_drafts(tmp_path, older_than_s=-1) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_users_folder_is_in_xdg_cache_home_or_else_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "armada"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert user_folder() == tmp_path / "home" / ".cache" / "armada"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_folder() == tmp_path / "home" / ".cache" / "armada"
