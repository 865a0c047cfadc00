"""A workspace belongs to one cache, user and host: no copy of a cache takes it, and a moved cache finds it again."""

import json
import os
import shutil
import stat

import fsspec
import pytest

from teacher_cache import CacheError
from teacher_cache.files.atomic_files import atomic_write
from teacher_cache.files.store import Store
from teacher_cache.files.urls import identity
from teacher_cache.storage.workspace import find_workspace, moved_workspaces, open_workspace, unmark


def none():
    return frozenset()


def made(path):
    """Make what counts as a cache here, and return its store."""
    atomic_write(path / "cache.json", b"{}")
    return Store(str(path))


def test_a_cache_has_one_workspace_however_its_path_is_written(tmp_path, monkeypatch):
    store = made(tmp_path / "c")
    opened = open_workspace(store, none)
    (tmp_path / "link").symlink_to(tmp_path / "c")
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    for url in ("c", "c/", "./c", f"file://{tmp_path}/c", "link", f"{tmp_path}/x/../c"):
        assert open_workspace(Store(url), none) == opened
    assert find_workspace(store, none) == opened


@pytest.mark.parametrize(
    ("one", "other"),
    [("memory://c", "memory://c/"), ("memory://a/b", "memory:///a/b/"), ("file:///tmp/x", "/tmp/x/")],
)
def test_urls_of_one_cache_have_one_identity(one, other):
    assert Store(one).identity == Store(other).identity


def test_an_identity_holds_no_secret():
    file_system = fsspec.filesystem("memory", host="h", port=22, password="SECRET", skip_instance_cache=True)
    assert identity(file_system, "/c/") == "host=h;port=22;memory:///c"


def test_two_hosts_and_two_users_have_workspaces_of_their_own(tmp_path, monkeypatch):
    store = made(tmp_path / "c")
    folders = {open_workspace(store, none).folder}
    monkeypatch.setenv("ARMADA_HOST", "another")
    folders.add(open_workspace(store, none).folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of-another-user"))
    folders.add(open_workspace(store, none).folder)
    assert len(folders) == 3
    markers = [json.loads(path.read_text()) for path in (tmp_path / "c" / "local").iterdir()]
    assert len({marker["token"] for marker in markers}) == 3


def test_the_workspace_is_outside_the_cache(tmp_path):
    store = made(tmp_path / "c")
    assert not open_workspace(store, none).folder.is_relative_to(tmp_path / "c")
    assert sum(path.stat().st_size for path in (tmp_path / "c" / "local").iterdir()) < 1000


def test_a_moved_cache_finds_its_workspace(tmp_path):
    old = open_workspace(made(tmp_path / "a"), none)
    (tmp_path / "a").rename(tmp_path / "b")
    store = Store(str(tmp_path / "b"))
    own = open_workspace(store, none)
    assert own.token != old.token
    assert list(moved_workspaces(store)) == [old]
    unmark(store, old)
    assert list(moved_workspaces(store)) == []


def test_a_copy_takes_no_workspace_while_the_original_lives(tmp_path):
    old = open_workspace(made(tmp_path / "a"), none)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    store = Store(str(tmp_path / "b"))
    open_workspace(store, none)
    assert list(moved_workspaces(store)) == []
    shutil.rmtree(tmp_path / "a")
    assert list(moved_workspaces(store)) == [old]


def test_a_cache_made_anew_where_another_was_leaves_the_work_to_the_moved_one(tmp_path):
    old = open_workspace(made(tmp_path / "a"), none)
    (tmp_path / "a").rename(tmp_path / "b")
    new = open_workspace(made(tmp_path / "a"), none)
    assert new.token != old.token
    (found,) = moved_workspaces(Store(str(tmp_path / "b")))
    assert (found.token, found.folder != new.folder) == (old.token, True)
    assert open_workspace(Store(str(tmp_path / "a")), none) == new


@pytest.mark.parametrize("gone", ["markers", "times", "both, but its commits name the ledger"])
def test_a_cache_keeps_its_workspace_if_its_markers_or_times_are_lost(tmp_path, gone):
    store = made(tmp_path / "c")
    old = open_workspace(store, none)
    if gone != "times":
        shutil.rmtree(tmp_path / "c" / "local")
    if gone != "markers":
        os.utime(tmp_path / "c" / "cache.json", (1, 1))
    ledgers = (lambda: frozenset([old.token])) if "both" in gone else none
    assert open_workspace(store, ledgers).token == old.token


def test_a_workspace_that_lost_its_description_keeps_its_token_and_its_spool(tmp_path):
    store = made(tmp_path / "c")
    old = open_workspace(store, none)
    atomic_write(old.folder / "spool.sqlite", b"pictures")
    atomic_write(old.folder / "spool.json", b'{"token": ')
    assert open_workspace(store, none) == old


@pytest.mark.parametrize(
    "marker",
    [
        b"no json",
        b"[]",
        b'{"host": 1, "spool": "x", "token": "y"}',
        b'{"host": "HOST", "spool": "../../x", "token": "00000000000000000000000000000000"}',
        b'{"host": "HOST", "spool": "x", "token": "../../../etc"}',
    ],
)
def test_a_marker_from_a_stranger_leads_nowhere(tmp_path, monkeypatch, marker):
    monkeypatch.setenv("ARMADA_HOST", "HOST")
    store = made(tmp_path / "c")
    own = open_workspace(store, none)
    atomic_write(tmp_path / "c" / "local" / "HOST-x.json", marker)
    assert list(moved_workspaces(store)) == []
    assert open_workspace(store, none) == own


def test_a_state_folder_that_cannot_be_made_is_an_error_that_says_what_to_set(tmp_path, monkeypatch):
    store = made(tmp_path / "c")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="set XDG_STATE_HOME"):
        open_workspace(store, none)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_in_a_cache_have_the_rights_of_the_umask_and_the_group_of_the_folder(tmp_path, umask):
    root = tmp_path / "c"
    root.mkdir()
    if os.getuid() == 0:
        os.chown(root, -1, 4242)
    root.chmod(0o2777)
    before = os.umask(umask)
    try:
        store = made(root)
        store.write("images/t/shards/x.tar", b"x")
        open_workspace(store, none)
    finally:
        os.umask(before)
    for path in root.rglob("*"):
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o777 == 0o777 & ~umask
        else:
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        assert path.stat().st_gid == root.stat().st_gid
