"""Several people and one bucket, without a lock: the union is right, and what one paid for, nobody pays for again."""

import collections
import threading
import time

import numpy as np
import pytest

from teacher_cache import Cache, NoCacheError, NotBuiltError, build, choose, open_features, pull, push, verify
from teacher_cache.building.other_hosts import OtherHosts
from teacher_cache.files.store import Store
from tests import fakes
from tests.faults.forked import start, wait
from tests.teacher_cache.maintenance.caches import rows_of
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built, costs_nothing


def write(url, first, last):
    """Build some prompts, as one of the writers."""
    prompts = [f"prompt {number}" for number in range(first, last)]
    build(Cache(url, create=True), prompts, fakes.teacher(), fakes.encoder(), SMALL)


def read_until(url, rows):
    """Read the features again and again until there are so many: the number never falls, and nothing is missing."""
    counts = []
    while not counts or counts[-1] < rows:
        try:
            cache = Cache(url)
            features = open_features(cache, *choose(cache, None, None))
            assert not cache.state.missing, cache.state.missing
            counts.append(len(features))
            features.take(np.arange(len(features)))
        except (NoCacheError, NotBuiltError):
            counts.append(0)
        time.sleep(0.05)
    assert counts == sorted(counts), counts
    assert len(set(counts)) > 1, counts


def started(function, tmp_path, host, **environment):
    """Start a function in a process of its own, as another person on another machine would."""
    home = tmp_path / host
    own = {"ARMADA_HOST": host, "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}
    return start(function, **own, **environment)


def test_a_build_straight_into_an_s3_bucket_is_the_same_cache_and_is_trained_from(tmp_path, bucket):
    cache = Cache(bucket.url, create=True)
    teacher = fakes.teacher()
    build(cache, [*PROMPTS, "[refused] x"], teacher, fakes.encoder(), SMALL)
    assert len(teacher.calls) == len(PROMPTS) + 1
    assert rows_of(Cache(bucket.url)) == rows_of(Cache(str(built(tmp_path / "a"))))
    assert costs_nothing(bucket.url)
    assert verify(bucket.url).problems == []
    opened = Cache(bucket.url)
    for options in ({}, {"max_local_bytes": 100}):
        features = open_features(opened, *choose(opened, None, None), **options)
        expected = open_features(Cache(str(tmp_path / "a")), *choose(Cache(str(tmp_path / "a")), None, None))
        assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected.take(expected.rows_of(PROMPTS)))


def test_what_another_machine_adds_to_an_s3_bucket_is_seen_at_the_next_refresh(tmp_path, bucket):
    """s3fs keeps listings: a second machine used to pay again for what the first had added."""
    mine = Cache(bucket.url, create=True)
    build(mine, PROMPTS[:4], fakes.teacher(), fakes.encoder(), SMALL)
    (teacher,) = mine.teachers()
    assert mine.images(teacher).num_rows == 4
    folder = f"images/{teacher.name}"
    assert mine.store.names(folder) == ["README.md", "indexes", "shards", "teacher.json"]  # s3fs keeps this listing
    bucket.write(f"{folder}/new.json", b"{}")
    assert mine.store.exists(f"{folder}/new.json")
    bucket.remove(f"{folder}/new.json")
    assert not mine.store.exists(f"{folder}/new.json")
    other = built(tmp_path / "other")
    for path in sorted(other.rglob("*"), key=lambda path: "commits" in path.parts):
        if path.is_file() and path.relative_to(other).parts[0] in ("images", "features", "failures", "commits"):
            bucket.write(str(path.relative_to(other)), path.read_bytes())  # not by this process's s3fs
    mine.refresh()
    assert mine.images(teacher).num_rows == len(PROMPTS)
    again = fakes.teacher()
    build(mine, PROMPTS, again, fakes.encoder(), SMALL)
    assert again.calls == []


def test_an_s3_put_is_conditional_and_an_object_that_is_there_stays(tmp_path, bucket):
    store, name = Store(bucket.url), f"commits/{'a' * 64}.json"
    store.write(name, b"first")
    bucket.write(name, b"other")  # of the same size, as if somebody else were faster
    store.write(name, b"third")
    assert bucket.read(name) == b"other"
    store.write(name, b"longer than that")  # a half file is replaced
    assert bucket.read(name) == b"longer than that"
    store.write("README.md", b"1")
    store.write("README.md", b"2")
    assert bucket.read("README.md") == b"2"


@pytest.mark.parametrize("shared", ["different prompts", pytest.param("the same prompts", marks=pytest.mark.slow)])
def test_two_writers_and_a_reader_at_once_in_an_s3_bucket_end_with_the_union(tmp_path, bucket, shared):
    log, union = tmp_path / "log", 16
    ranges = [(0, 8), (8, 16)] if shared == "different prompts" else [(0, 16), (0, 16)]
    environment = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.05"}
    children = [
        started(lambda span=span: write(bucket.url, *span), tmp_path, f"host{number}", **environment)
        for number, span in enumerate(ranges)
    ]
    children.append(started(lambda: read_until(bucket.url, union), tmp_path, "host9"))
    assert [wait(child) for child in children] == [0, 0, 0]
    counted = collections.Counter(log.read_text().splitlines())
    assert len(counted) == union
    assert max(counted.values()) == 1 or shared == "the same prompts"
    assert len(rows_of(Cache(bucket.url))) == union
    assert verify(bucket.url).problems == []
    assert pull(bucket.url, str(tmp_path / "copy")).is_whole
    third = fakes.teacher()
    build(Cache(bucket.url), [f"prompt {number}" for number in range(union)], third, fakes.encoder(), SMALL)
    assert third.calls == []


def test_what_one_has_paid_is_seen_by_another_build_of_the_s3_bucket_within_a_seal(tmp_path, bucket, monkeypatch):
    """Another person builds half of the prompts while this build runs: after its next seal they are not requested."""
    Cache(bucket.url, create=True)
    log, sealed, look = tmp_path / "log", threading.Event(), OtherHosts.look

    def look_and_tell(others):
        look(others)
        if log.exists():
            sealed.set()

    monkeypatch.setattr(OtherHosts, "look", look_and_tell)

    class Watched(fakes.FakeTeacher):
        def draw(self, requests):
            for number, answer in enumerate(super().draw(requests)):
                if number == 2:
                    child = started(lambda: write(bucket.url, 20, 40), tmp_path, "other", ARMADA_FAKE_LOG=str(log))
                    assert wait(child) == 0
                assert number < 8 or sealed.wait(60)
                yield answer

    mine = Watched(fakes.Spec("fake", "", {}, "fake"))
    prompts = [f"prompt {number}" for number in range(40)]
    build(Cache(bucket.url), prompts, mine, fakes.encoder(), SMALL)
    others = log.read_text().splitlines()
    assert len(others) == 20
    assert len(set(mine.calls) | set(others)) == 40
    assert not set(mine.calls[9:]) & set(others)
    assert len(rows_of(Cache(bucket.url))) == 40


@pytest.mark.slow
def test_two_pushes_of_different_caches_to_one_s3_bucket_at_once_end_with_the_union(tmp_path, bucket):
    folders = [built(tmp_path / "a"), built(tmp_path / "b", [f"other {number}" for number in range(8)])]
    expected = {key: row for folder in folders for key, row in rows_of(Cache(str(folder))).items()}
    children = [
        started(lambda folder=folder: push(str(folder), bucket.url), tmp_path, f"host{number}")
        for number, folder in enumerate(folders)
    ]
    assert [wait(child) for child in children] == [0, 0]
    assert rows_of(Cache(bucket.url)) == expected
    assert [push(str(folder), bucket.url).files_sent for folder in folders] == [0, 0]
    assert verify(bucket.url).problems == []
