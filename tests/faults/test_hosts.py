"""Work in progress is one host's and one cache's: copies, moves, second hosts and damage cost at most calls in flight.

The teacher logs each call before it answers: every call in the log was paid for. A host is a name and a state folder.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from teacher_cache import (
    BuildOptions,
    Cache,
    CacheError,
    build,
    image_key,
    merge,
    prompt_key,
    source_of_teacher,
    status,
)
from tests import fakes
from tests.faults.forked import start, wait

pytestmark = pytest.mark.faults
PROMPTS = [f"prompt {i}" for i in range(30)]
KEYS = {prompt: image_key(source_of_teacher(fakes.teacher()).digest, prompt_key(prompt)) for prompt in PROMPTS}


class Large(fakes.FakeTeacher):
    """Draws pictures of 200 KB."""

    def _answer(self, request):
        return fakes.Picture(request.image_key, fakes.png(request.seed, 260), "png", 0.04, 0.001)


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "calls"
    path.touch()
    monkeypatch.setenv("ARMADA_FAKE_LOG", str(path))
    return path


def on(host, root):
    """Return the environment of a host whose folders are below `root`."""
    return {
        "ARMADA_HOST": host,
        "XDG_STATE_HOME": str(root / host / "state"),
        "XDG_CACHE_HOME": str(root / host / "cache"),
    }


def run(folder, prompts=PROMPTS, kind=fakes.FakeTeacher, **options):
    teacher = kind(fakes.Spec("fake", "", {"price": "0.04"}, "fake"))
    return build(Cache(str(folder), create=True), prompts, teacher, fakes.encoder(), BuildOptions(**options))


def kill_with_unsealed(folder, prompts, answers, kind=fakes.FakeTeacher, **environment):
    """Build and kill: `answers` pictures are in the spool, none is sealed, and one call is in flight."""
    code = wait(
        start(lambda: run(folder, prompts, kind), ARMADA_CRASH_POINT=f"spool.record:{answers + 1}", **environment)
    )
    assert code == -9


def calls(log):
    return Counter(log.read_text().splitlines())


def check(folder, log, in_flight, prompts=PROMPTS):
    """Assert that the cache has all pictures and features, and calls made = rows + calls in flight."""
    made = calls(log)
    assert set(made) == {KEYS[prompt] for prompt in prompts}
    assert sum(made.values()) == len(prompts) + in_flight
    (state,) = status(Cache(str(folder)))
    assert (state.pictures, state.encoders[0].features, state.in_spool) == (len(prompts), len(prompts), 0)
    assert state.calls == sum(made.values())
    assert state.cost_usd == pytest.approx(0.04 * state.calls)


def test_two_hosts_on_one_folder_share_no_file_and_repeat_only_what_the_other_has_not_committed(tmp_path, log):
    folder = tmp_path / "cache"
    Cache(str(folder), create=True)
    hosts = [on(name, tmp_path) for name in ("one", "two")]
    runs = [
        lambda: run(folder, PROMPTS, seal_rows=4, shard_rows=8),
        lambda: run(folder, PROMPTS[::-1], seal_rows=4, shard_rows=8),
    ]
    children = [start(f, ARMADA_FAKE_DELAY="0.01", **host) for f, host in zip(runs, hosts, strict=True)]
    assert [wait(child) for child in children] == [0, 0]
    made = calls(log)
    assert set(made) == set(KEYS.values())
    assert max(made.values()) <= 2
    spools = [set((tmp_path / name / "state" / "armada" / "spools").glob("*/spool.sqlite")) for name in ("one", "two")]
    assert [len(found) for found in spools] == [1, 1]
    assert not list(folder.rglob("*.sqlite*"))
    (state,) = status(Cache(str(folder)))
    assert (state.pictures, state.encoders[0].features) == (30, 30)
    assert state.calls == sum(made.values())  # of both hosts, seen from a third


def test_copying_one_cache_over_another_loses_no_unsealed_picture_of_either(tmp_path, log):
    a, b = tmp_path / "a", tmp_path / "b"
    run(a, PROMPTS[:4])
    kill_with_unsealed(a, PROMPTS[:12], 6)
    kill_with_unsealed(b, PROMPTS[15:], 5)
    subprocess.run(["cp", "-r", f"{a}/.", str(b)], check=True)
    subprocess.run(["cp", "-r", f"{b}/.", str(a)], check=True)
    assert run(a, PROMPTS[:12]).calls == 2  # of 12 are 4 sealed and 6 in the spool
    assert run(b, PROMPTS[15:]).calls == 10
    merge([Cache(str(a))], Cache(str(b)))
    assert run(b).calls == 3
    check(b, log, in_flight=2)
    subprocess.run(["cp", "-r", f"{b}/.", str(a)], check=True)
    assert run(a).calls == 0
    check(a, log, in_flight=2)


@pytest.mark.parametrize("remade", [False, True])
def test_a_moved_cache_takes_its_unsealed_pictures_and_its_ledger_along(tmp_path, log, remade):
    run(tmp_path / "a", PROMPTS[:5])
    kill_with_unsealed(tmp_path / "a", PROMPTS, 9)
    (tmp_path / "a").rename(tmp_path / "b")
    if remade:  # another cache is made at the old path, before the moved one is used
        assert run(tmp_path / "a", []).calls_total == 0
    (before,) = status(Cache(str(tmp_path / "b")))
    assert (before.in_spool, before.pictures) == (9, 5)
    report = run(tmp_path / "b", max_calls=31)
    assert (report.calls, report.calls_total, report.stopped) == (16, 31, "")
    check(tmp_path / "b", log, in_flight=1)
    assert run(tmp_path / "b").calls == 0


def test_a_copy_that_outlives_the_original_takes_its_unsealed_pictures(tmp_path, log):
    kill_with_unsealed(tmp_path / "a", PROMPTS, 9)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert run(tmp_path / "b", PROMPTS[-3:]).calls == 3  # while the original lives, the copy has nothing of it
    shutil.rmtree(tmp_path / "a")
    assert run(tmp_path / "b").calls == 18
    check(tmp_path / "b", log, in_flight=1)


def test_a_cache_removed_and_made_again_starts_with_an_empty_ledger(tmp_path, log):
    run(tmp_path / "a", PROMPTS[:5])
    shutil.rmtree(tmp_path / "a")
    report = run(tmp_path / "a", PROMPTS[:5], max_calls=5)
    assert (report.calls, report.calls_total, report.stopped) == (5, 5, "")


def test_removing_the_folder_local_of_a_cache_loses_nothing(tmp_path, log):
    kill_with_unsealed(tmp_path / "a", PROMPTS, 9)
    shutil.rmtree(tmp_path / "a" / "local")
    run(tmp_path / "a")
    check(tmp_path / "a", log, in_flight=1)


def test_a_budget_counts_what_another_host_has_spent(tmp_path, log, monkeypatch):
    folder = tmp_path / "cache"
    assert wait(start(lambda: run(folder, max_calls=10), **on("one", tmp_path))) == 0
    report = run(folder, max_calls=15)
    assert (report.calls, report.calls_total, report.stopped) == (5, 15, "budget")
    report = run(folder, budget_usd=0.68)
    assert (report.calls, report.cost_usd, report.cost_usd_total) == (2, 0.08, 0.68)
    for name, value in on("one", tmp_path).items():
        monkeypatch.setenv(name, value)
    report = run(folder, max_calls=18)
    assert (report.calls, report.calls_total) == (1, 18)


def test_a_lost_state_folder_loses_no_committed_spending(tmp_path, log):
    run(tmp_path / "cache", max_calls=10)
    shutil.rmtree(tmp_path / "user-state")
    assert run(tmp_path / "cache", max_calls=12).calls == 2
    check(tmp_path / "cache", log, in_flight=0, prompts=PROMPTS[:12])


def test_merging_and_copying_back_and_forth_count_no_call_twice(tmp_path, log):
    a, b = tmp_path / "a", tmp_path / "b"
    run(a, PROMPTS[:10])
    run(b, PROMPTS[10:20])
    for _ in range(2):
        merge([Cache(str(a))], Cache(str(b)))
        subprocess.run(["cp", "-r", f"{b}/.", str(a)], check=True)
    assert run(a, PROMPTS[:20], max_calls=21).calls_total == 20
    report = run(b, PROMPTS, max_calls=21)
    assert (report.calls, report.calls_total) == (1, 21)


def test_calls_that_failed_or_were_lost_are_in_the_commits_too(tmp_path, log):
    folder = tmp_path / "cache"
    kill_with_unsealed(folder, ["prompt 1"], 0)
    assert wait(start(lambda: run(folder, []), ARMADA_FAKE_LOG=str(log))) == 0
    shutil.rmtree(tmp_path / "user-state")
    (state,) = status(Cache(str(folder)))
    assert state.calls == 1


def test_two_builds_at_once_report_their_own_calls_and_costs(tmp_path, log):
    folder, reports = tmp_path / "cache", [tmp_path / "report0", tmp_path / "report1"]
    Cache(str(folder), create=True)

    def reported(number):
        report = run(folder, PROMPTS if number else PROMPTS[::-1], seal_rows=5)
        reports[number].write_text(f"{report.calls} {report.cost_usd} {report.calls_total}")

    children = [start(lambda n=n: reported(n), ARMADA_FAKE_DELAY="0.02") for n in range(2)]
    assert [wait(child) for child in children] == [0, 0]
    found = [tuple(map(float, path.read_text().split())) for path in reports]
    assert sum(made for made, _, _ in found) == sum(calls(log).values()) == 30
    assert all(0 < made < 30 and cost == pytest.approx(0.04 * made) for made, cost, _ in found)
    assert max(total for _, _, total in found) == 30


@pytest.mark.parametrize("damage", ["half", "header", "text", "no wal"])
def test_a_damaged_spool_stops_no_build_and_keeps_what_can_be_read(tmp_path, log, capfd, damage):
    folder = tmp_path / "cache"
    kill_with_unsealed(folder, PROMPTS, 20, Large)
    (file,) = (tmp_path / "user-state").rglob("spool.sqlite")
    wal = file.with_name("spool.sqlite-wal")
    if damage == "no wal":
        wal.unlink()
    elif damage == "text":
        file.write_text("this is no database\n" * 999)
        wal.unlink()
    else:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] if damage == "half" else bytes(4096) + data[4096:])
    report = run(folder, kind=Large)
    words = capfd.readouterr().err
    (state,) = status(Cache(str(folder)))
    assert (state.pictures, state.encoders[0].features, state.in_spool) == (30, 30, 0)
    if damage != "no wal":  # without it SQLite has a sound file, of an earlier state
        assert "the spool is damaged" in words
        assert "it was moved to" in words
    if damage == "header":
        assert report.calls == 10
    if damage == "half":
        assert 10 < report.calls < 24
    assert run(folder).calls == 0


@pytest.fixture
def open_folder():
    """A folder that other users may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def open_log(open_folder, monkeypatch):
    """The log of calls, to which every user may write."""
    path = open_folder / "calls"
    path.touch()
    path.chmod(0o666)
    monkeypatch.setenv("ARMADA_FAKE_LOG", str(path))
    return path


def as_another_user(function, folder):
    """Run a function as another user, whose home is in `folder`, and return its exit code."""
    home = folder / "other-home"
    if not home.exists():
        home.mkdir()
        os.chown(home, 12345, -1)

    def switched():
        os.environ.update(on("here", home))
        os.setgroups([4242])
        os.setuid(12345)
        function()

    return wait(start(switched))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("locked", ["all", "commits", "images", "features"])
def test_a_cache_that_cannot_be_written_to_is_refused_before_the_first_call(open_folder, open_log, locked):
    folder = open_folder / "cache"
    run(folder, PROMPTS[:3])
    open_log.write_text("")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    for path in [folder, *folder.rglob("*")] if locked == "all" else [folder / locked, *(folder / locked).rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    words = open_folder / "words"
    words.touch()
    words.chmod(0o666)

    def refused():
        try:
            run(folder)
        except CacheError as error:
            words.write_text(str(error))

    assert as_another_user(refused, open_folder) == 0
    assert "Permission denied" in words.read_text()
    assert open_log.read_text() == ""
    assert as_another_user(lambda: run(folder, PROMPTS[:3]), open_folder) == 0  # nothing to do: nothing to refuse
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    assert as_another_user(lambda: run(folder), open_folder) == 0
    assert max(calls(open_log).values()) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_second_user_of_a_group_can_look_at_build_and_seal_into_a_shared_cache(open_folder, open_log):
    shared = open_folder / "shared"
    shared.mkdir()
    os.chown(shared, -1, 4242)
    shared.chmod(0o2775)
    folder = shared / "cache"
    before = os.umask(0o002)
    try:
        run(folder, PROMPTS[:10])
        assert as_another_user(lambda: (status(Cache(str(folder))), run(folder, PROMPTS[:20])), open_folder) == 0
        run(folder)
    finally:
        os.umask(before)
    check(folder, open_log, in_flight=0)
    assert {path.stat().st_gid for path in folder.rglob("*")} == {4242}
    assert all(path.stat().st_mode & 0o060 == 0o060 for path in folder.rglob("*"))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("where", ["state", "cache", "both"])
def test_on_a_full_disk_the_build_ends_in_words_and_asks_for_nothing_again(
    tmp_path, log, small_disk, monkeypatch, where
):
    folder = (small_disk if where != "state" else tmp_path) / "cache"
    if where != "cache":
        monkeypatch.setenv("XDG_STATE_HOME", str(small_disk / "state"))
    ballast = small_disk / "ballast"
    prompts = [f"prompt {i}" for i in range(60)]  # 12 MB in all

    def large():
        return run(folder, prompts, Large, seal_rows=10)

    ballast.write_bytes(bytes((7 if where == "state" else 4) << 20))
    with pytest.raises(CacheError, match="no room left on the disk"):
        large()
    assert 5 < len(calls(log)) < 60
    with pytest.raises(CacheError, match="no room left on the disk"):
        large()
    assert max(calls(log).values()) == 1
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    large()
    assert (len(calls(log)), max(calls(log).values())) == (60, 1)
    (state,) = status(Cache(str(folder)))
    assert (state.pictures, state.in_spool, state.calls) == (60, 0, 60)


def test_work_in_progress_that_a_build_does_not_take_is_named(tmp_path, log, capfd, monkeypatch):
    folder = tmp_path / "cache"
    kill_with_unsealed(folder, PROMPTS, 9)
    host = os.environ.get("ARMADA_HOST", os.uname().nodename)
    monkeypatch.setenv("ARMADA_HOST", "renamed")
    run(folder, PROMPTS[:1])
    assert f"ARMADA_HOST={host}" in capfd.readouterr().err
    run(folder, PROMPTS[:1])
    assert "ARMADA_HOST" not in capfd.readouterr().err  # said once
    monkeypatch.setenv("ARMADA_HOST", host)
    shutil.rmtree(folder)
    run(folder, PROMPTS[:1])
    assert "9 unsealed rows of another cache" in capfd.readouterr().err


def test_builds_that_start_while_another_seals_pay_for_nothing_twice(tmp_path, log):
    """Each build plans with the commits that were there at its last seal number, so that none is in between."""
    folder = tmp_path / "cache"
    Cache(str(folder), create=True)
    children = [start(lambda: run(folder, seal_rows=2), ARMADA_FAKE_DELAY="0.01") for _ in range(4)]
    assert [wait(child) for child in children] == [0] * 4
    assert max(calls(log).values()) == 1
    check(folder, log, in_flight=0)
