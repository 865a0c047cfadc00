"""Several people and one bucket, without a lock: the union is right, and what one paid for, nobody pays for again."""

import collections
import os
import subprocess
import sys

import numpy as np
import pytest

from teacher_cache import Cache, build, choose, open_features, pull, push, verify
from teacher_cache.files.store import Store
from tests import fakes
from tests.teacher_cache.maintenance.caches import rows_of
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built, costs_nothing

BUILDER = """
import sys
from teacher_cache import BuildOptions, Cache, build
from tests import fakes
url, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
prompts = [f"prompt {number}" for number in range(first, last)]
options = BuildOptions(shard_rows=4, seal_rows=4)
report = build(Cache(url, create=True), prompts, fakes.teacher(), fakes.encoder(), options)
print(report.calls)
"""
READER = """
import sys, time
import numpy as np
from teacher_cache import Cache, CacheError, NoCacheError, NotBuiltError, choose, open_features
counts, url = [], sys.argv[1]
while not counts or counts[-1] < int(sys.argv[2]):
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
print(len(set(counts)))
"""


def program(text, tmp_path, host, *arguments, **environment):
    """Start a program as another person on another machine would."""
    own = {
        "ARMADA_HOST": host,
        "XDG_STATE_HOME": str(tmp_path / host),
        "XDG_CACHE_HOME": str(tmp_path / f"{host}-cache"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        env={**os.environ, **own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process):
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    return out.strip()


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
    assert not mine.store.exists("images/new/teacher.json")
    other = built(tmp_path / "other")
    for path in sorted(other.rglob("*"), key=lambda path: "commits" in path.parts):
        if path.is_file() and path.relative_to(other).parts[0] in ("images", "features", "failures", "commits"):
            bucket.write(str(path.relative_to(other)), path.read_bytes())  # not by this process's s3fs
    bucket.write("images/new/teacher.json", b"{}")
    assert mine.store.exists("images/new/teacher.json")
    bucket.remove("images/new/teacher.json")
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


@pytest.mark.parametrize("shared", ["different prompts", "the same prompts"])
def test_two_writers_and_a_reader_at_once_in_an_s3_bucket_end_with_the_union(tmp_path, bucket, shared):
    log, union = tmp_path / "log", 16
    ranges = [(0, 8), (8, 16)] if shared == "different prompts" else [(0, 16), (0, 16)]
    environment = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.05"}
    writers = [
        program(BUILDER, tmp_path, f"host{number}", bucket.url, *span, **environment)
        for number, span in enumerate(ranges)
    ]
    reader = program(READER, tmp_path, "host9", bucket.url, union)
    calls = [int(output_of(writer).split()[-1]) for writer in writers]
    assert int(output_of(reader)) > 1
    counted = collections.Counter(log.read_text().splitlines())
    assert sum(counted.values()) == sum(calls)
    assert len(counted) == union
    if shared == "different prompts":
        assert max(counted.values()) == 1
    assert len(rows_of(Cache(bucket.url))) == union
    assert verify(bucket.url).problems == []
    assert pull(bucket.url, str(tmp_path / "copy")).is_whole
    third = fakes.teacher()
    build(Cache(bucket.url), [f"prompt {number}" for number in range(union)], third, fakes.encoder(), SMALL)
    assert third.calls == []


def test_what_one_has_paid_is_seen_by_another_build_of_the_s3_bucket_within_a_seal(tmp_path, bucket):
    """Two builds of the same prompts on two machines: the second starts after the first has sealed a half."""
    log = tmp_path / "log"
    environment = {"ARMADA_FAKE_LOG": str(log)}
    output_of(program(BUILDER, tmp_path, "host0", bucket.url, 0, 8, **environment))
    assert int(output_of(program(BUILDER, tmp_path, "host1", bucket.url, 0, 12, **environment)).split()[-1]) == 4
    assert max(collections.Counter(log.read_text().splitlines()).values()) == 1


def test_two_pushes_of_different_caches_to_one_s3_bucket_at_once_end_with_the_union(tmp_path, bucket):
    folders = [built(tmp_path / "a"), built(tmp_path / "b", [f"other {number}" for number in range(8)])]
    expected = {key: row for folder in folders for key, row in rows_of(Cache(str(folder))).items()}
    text = "import sys; from teacher_cache import push; done = push(sys.argv[1], sys.argv[2]); assert done.is_whole"
    pushes = [program(text, tmp_path, f"host{n}", folder, bucket.url) for n, folder in enumerate(folders)]
    for process in pushes:
        output_of(process)
    assert rows_of(Cache(bucket.url)) == expected
    assert [push(str(folder), bucket.url).files_sent for folder in folders] == [0, 0]
    assert verify(bucket.url).problems == []
