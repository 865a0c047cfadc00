"""Caches that are copied over each other, or in part: a build never pays for what is still to arrive."""

import os
import shutil
import signal

import pytest

from teacher_cache import BuildOptions, Cache, CacheError, build, compact, merge, verify
from tests import fakes
from tests.faults.forked import start, wait
from tests.teacher_cache.maintenance.caches import rows_of

pytestmark = [pytest.mark.faults, pytest.mark.slow]
OPTIONS = BuildOptions(shard_rows=4, seal_rows=4)
PROMPTS = [f"prompt {number}" for number in range(12)]


def built(folder, prompts):
    """Build a cache that has been built twice and compacted, so that it has every kind of file."""
    cache = Cache(str(folder), create=True)
    build(cache, prompts[:7], fakes.teacher(), fakes.encoder(), OPTIONS)
    build(cache, [*prompts, "[refused] x"], fakes.teacher(), fakes.encoder(), OPTIONS)
    compact(cache, shard_rows=6)
    return folder


def calls_of_build(folder, prompts):
    """Return how many calls a build of the prompts makes, or None if it stops before the first one, with one line."""
    teacher, message = fakes.teacher(), ""
    try:
        build(Cache(str(folder)), prompts, teacher, fakes.encoder(), OPTIONS)
    except CacheError as error:
        message = str(error)
    if not message:
        return len(teacher.calls)
    assert teacher.calls == [], "it paid, and then it stopped"
    assert len(message.splitlines()) == 1
    assert any(hint in message for hint in ("--redraw-missing", "--repair", "no cache here")), message
    return None


def in_alphabetical_order(source, target):
    """Copy a folder file by file, as rsync does: the files of a folder before its folders; yield after each."""
    for path in sorted(source.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.name == "local":
            continue  # a host's own
        if path.is_dir():
            (target / path.name).mkdir(exist_ok=True)
            yield from in_alphabetical_order(path, target / path.name)
        else:
            shutil.copy2(path, target / path.name)
            yield target / path.name


@pytest.mark.parametrize("half", [False, True], ids=["whole files", "half a file"])
def test_a_build_never_pays_while_a_copy_in_alphabetical_order_is_incomplete(tmp_path, half):
    source, target = built(tmp_path / "a", PROMPTS), tmp_path / "b"
    target.mkdir()
    stops = 0
    for path in in_alphabetical_order(source, target):
        if not path.is_relative_to(target / "webdataset"):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if half else data)
            trial = tmp_path / "trial"
            shutil.copytree(target, trial)
            calls = calls_of_build(trial, PROMPTS)
            assert calls in (None, 0), f"a build paid for {calls} pictures after {path.relative_to(target)}"
            stops += calls is None
            shutil.rmtree(trial)
            path.write_bytes(data)
    assert stops > 10
    assert calls_of_build(target, PROMPTS) == 0
    assert rows_of(Cache(str(target))) == rows_of(Cache(str(source)))
    assert verify(str(target)).problems == []


def test_a_copy_in_alphabetical_order_over_a_cache_keeps_its_rows_at_every_file(tmp_path):
    source, target = built(tmp_path / "a", PROMPTS), built(tmp_path / "b", [f"other {n}" for n in range(9)])
    before, arriving = rows_of(Cache(str(target))), rows_of(Cache(str(source)))
    for path in in_alphabetical_order(source, target):
        images = Cache(str(target)).images(Cache(str(target)).teachers()[0])
        assert before.keys() <= set(images["image_key"].to_pylist()), path
    assert rows_of(Cache(str(target))) == {**before, **arriving}
    assert calls_of_build(target, [*PROMPTS, *(f"other {n}" for n in range(9))]) == 0


def test_cp_of_one_cache_over_another_merges_them(tmp_path):
    source, target = built(tmp_path / "a", PROMPTS), built(tmp_path / "b", [f"other {n}" for n in range(9)])
    expected = {**rows_of(Cache(str(source))), **rows_of(Cache(str(target)))}
    shutil.copytree(source, target, dirs_exist_ok=True)
    assert rows_of(Cache(str(target))) == expected
    assert calls_of_build(target, [*PROMPTS, *(f"other {n}" for n in range(9)), "[refused] x"]) == 0
    assert verify(str(target)).problems == []


POINTS = ("store.rename", "store.renamed", "cache.commit", "cache.committed", "vacuum.remove", "store.quarantine")


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_every_point_of_compact_vacuum_merge_and_repair_loses_no_row(tmp_path, point):
    origin = built(tmp_path / "origin", PROMPTS)
    expected = rows_of(Cache(str(origin)))
    kills = 0
    for number in (1, 2, 4, 7):
        folder, target = tmp_path / f"c{number}", tmp_path / f"t{number}"
        shutil.copytree(origin, folder)
        steps = {
            "compact": lambda folder=folder: compact(Cache(str(folder)), shard_rows=100),
            "vacuum": lambda folder=folder: compact(Cache(str(folder)), vacuum=True, retain_hours=0),
            "merge": lambda folder=folder, target=target: merge([Cache(str(folder))], Cache(str(target), create=True)),
            "repair": lambda folder=folder: verify(str(folder), repair=True),
        }
        for name, step in steps.items():
            if name == "repair":  # of a damaged index, whose tar is sound, and of a file that nobody knows
                index = sorted(folder.glob("images/*/indexes/*.parquet"))[-1]
                index.write_bytes(index.read_bytes()[:-5])
                (folder / "failures" / "stray.parquet").write_bytes(b"x")
            kills += wait(start(step, ARMADA_CRASH_POINT=f"{point}:{number}")) == -signal.SIGKILL
            if name != "repair":
                assert rows_of(Cache(str(folder))) == expected, name
                assert calls_of_build(folder, PROMPTS) == 0, name
        verify(str(folder), repair=True)
        assert verify(str(folder)).problems == []
        assert rows_of(Cache(str(folder))) == expected
        assert calls_of_build(folder, [*PROMPTS, "[refused] x"]) == 0
        merge([Cache(str(folder))], Cache(str(target), create=True))
        assert rows_of(Cache(str(target))) == expected
    assert kills >= 2, f"{point} was passed only {kills} times"


def test_a_build_beside_a_vacuum_fails_in_no_way_that_a_user_sees_and_pays_for_nothing_twice(tmp_path):
    folder, log = tmp_path / "cache", tmp_path / "log"
    Cache(str(folder), create=True)
    options = BuildOptions(shard_rows=2, seal_rows=2)
    child = start(
        lambda: build(Cache(str(folder)), PROMPTS * 3, fakes.teacher(), fakes.encoder(), options),
        ARMADA_FAKE_LOG=str(log),
        ARMADA_FAKE_DELAY="0.05",
    )
    rounds, status = 0, (0, 0)
    while status[0] == 0:
        compact(Cache(str(folder)), vacuum=True, retain_hours=0)
        rounds += 1
        status = os.waitpid(child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status[1]) == 0
    assert rounds > 1
    assert sorted(log.read_text().splitlines()) == sorted(set(log.read_text().splitlines()))
    assert len(rows_of(Cache(str(folder)))) == len(PROMPTS)
    assert calls_of_build(folder, PROMPTS) == 0
