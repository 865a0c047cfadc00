"""Any file of a cache may be a stranger's: it is named or left out, and the rest is read, pulled and verified."""

import shutil

import numpy as np
import pytest

from teacher_cache import ArmadaError, Cache, build, choose, open_features, pull, status, verify
from teacher_cache.format.commits import Shard, commit_bytes
from teacher_cache.keys import sha256
from tests import fakes
from tests.fuzz.containers import odd_tar
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, damaged_end, other_json
from tests.teacher_cache.maintenance.caches import rows_of

WHO = {"by": "mallory@elsewhere", "at": "2026-01-01T00:00:00+00:00"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A cache of four pictures with a failure."""
    folder = tmp_path_factory.mktemp("sound") / "cache"
    build(Cache(str(folder), create=True), [*"abcd", "[refused] e"], fakes.teacher(), fakes.encoder())
    return folder


def use(folder, home):
    """Run what reads a cache. A refusal of one part is no reason for another part to fail."""
    new, refused = home / "new", 0
    shutil.rmtree(new, ignore_errors=True)

    def read():
        cache = Cache(str(folder))
        features = open_features(cache, *choose(cache, None, None))
        features.take(np.arange(len(features)))

    for attempt in (
        read,
        lambda: status(Cache(str(folder))),
        lambda: pull(str(folder), str(new)),
        lambda: verify(str(folder)),
    ):
        try:
            attempt()
        except ArmadaError:
            refused += 1
    return refused


@pytest.mark.parametrize("pattern", ["cache.json", "commits/*", "checkpoints/*", "**/teacher.json", "**/encoder.json"])
def test_a_damaged_record_ends_nothing(sound, tmp_path, pattern):
    folder = tmp_path / "cache"
    shutil.copytree(sound, folder)
    path = next(folder.glob(pattern))

    def read(data):
        path.write_bytes(data)
        use(folder, tmp_path)

    fuzz(f"cache {pattern}", [path.read_bytes()], (damaged_bytes, other_json, other_json), read, tmp_path, count=5)


@pytest.mark.parametrize(
    "pattern", ["images/*/shards/*", "images/*/indexes/*", "features/*/*/shards/*", "failures/*/*"]
)
def test_a_shard_with_its_digest_but_another_content_ends_nothing(sound, tmp_path, pattern):
    """A stranger's commit names the changed file by its digest, in place of the sound one."""
    folder = tmp_path / "cache"
    shutil.copytree(sound, folder)
    path = next(folder.glob(pattern))
    seed, rows = path.read_bytes(), rows_of(Cache(str(sound)))
    before = Cache(str(sound)).shards()
    for old in (*folder.glob("commits/*"), *folder.glob("checkpoints/*")):
        old.unlink()

    def read(data):
        digest = sha256(data)
        place = path.with_name(f"{digest[:32]}{path.suffix}")
        place.write_bytes(data)
        shards = [_swapped(shard, str(path.relative_to(folder)), data) for shard in before]
        commit = commit_bytes(shards, **WHO)
        named = folder / "commits" / f"{sha256(commit)}.json"
        named.write_bytes(commit)
        use(folder, tmp_path)
        named.unlink()
        if place != path:
            place.unlink()

    fuzz(
        f"shards {pattern}",
        [seed],
        (damaged_end, damaged_bytes, odd_tar) if path.suffix == ".tar" else (damaged_end, damaged_bytes),
        read,
        tmp_path,
        count=5,
    )
    assert rows == rows_of(Cache(str(sound)))


def _swapped(shard, path, data):
    """Return a shard as it is named with other bytes for one of its files."""
    if shard.index:
        shard = Shard(shard.path, shard.bytes, shard.rows, shard.sha256, _swapped(shard.index, path, data))
    if shard.path != path:
        return shard
    digest = sha256(data)
    folder, _, name = path.rpartition("/")
    return Shard(f"{folder}/{digest[:32]}.{name.partition('.')[2]}", len(data), shard.rows, digest, shard.index)
