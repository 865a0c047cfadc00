"""Remote caches, and caches too large for this machine: the same rows, fetched once and checked; a failed download
continues where it stopped.
"""

import numpy as np
import pytest

from teacher_cache import Cache, CacheError, build, merge
from teacher_cache.files.store import Store
from teacher_cache.reading import reader
from teacher_cache.reading.matrix_store import folders
from tests import fakes
from tests.teacher_cache.reading.test_reader import PROMPTS, SMALL, expected, opened


@pytest.fixture
def remote(tmp_path, cache):
    """A cache on an fsspec file system that is not local, with 17 rows in five shards."""
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    url = f"memory://{tmp_path.name}"
    merge([cache], Cache(url, create=True))
    return Cache(url)


def copies(monkeypatch, change=lambda name, path: None):
    """Return the names of the shards that are fetched from now on; `change` may damage a copy."""
    fetched = []
    plain = Store.copy_to

    def copy_to(store, name, path, size=-1):
        plain(store, name, path, size)
        fetched.append(name)
        change(name, path)

    monkeypatch.setattr(Store, "copy_to", copy_to)
    return fetched


def test_a_remote_cache_is_fetched_once_and_its_copies_are_removed(remote, monkeypatch):
    fetched = copies(monkeypatch)
    features = opened(remote)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))
    assert len(fetched) == len(set(fetched)) == 10  # five of features, five indexes of pictures
    assert list((remote.derived_folder / "fetched").iterdir()) == []
    opened(Cache(remote.store.url))
    assert len(fetched) == 10


def test_a_truncated_download_is_fetched_again(remote, monkeypatch):
    cut = set()

    def cut_first(name, path):
        if name not in cut:
            cut.add(name)
            path.write_bytes(path.read_bytes()[:-7])

    fetched = copies(monkeypatch, cut_first)
    features = opened(remote)
    assert len(fetched) == 20
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_a_failed_download_continues_where_it_stopped(remote, monkeypatch):
    def fail(name, path):
        if len(fetched) > 4:
            path.write_bytes(b"")

    fetched = copies(monkeypatch, fail)
    with pytest.raises(CacheError, match=r"expected \d+ bytes, found 0"):
        opened(remote)
    complete = {path.name for path in (remote.derived_folder / "fetched").iterdir()}
    assert len(complete) == 4
    monkeypatch.undo()
    fetched = copies(monkeypatch)
    opened(remote)
    assert len(fetched) == 6


def test_a_changed_remote_shard_is_refused(remote):
    (shard, *_) = [s for s in remote.shards("features/") if s.path.endswith(".parquet")]
    data = bytearray(remote.store.read(shard.path))
    data[-40] ^= 1
    remote.store.write(shard.path, bytes(data))
    for options in ({}, {"max_local_bytes": 1}):
        with pytest.raises(CacheError, match="sha256 differs from the commit's"):
            opened(remote, **options)


@pytest.mark.parametrize("where", ["local", "remote"])
def test_windows_have_the_same_rows_and_store_no_matrix(cache, remote, where):
    source = {"local": cache, "remote": remote}[where]
    features = opened(source, max_local_bytes=100)
    rows = features.rows_of(PROMPTS[::-1])
    assert np.array_equal(features.take(rows), expected(PROMPTS[::-1]))
    assert features.pictures_of(rows) == opened(cache).pictures_of(opened(cache).rows_of(PROMPTS[::-1]))
    kept = folders(source.derived_folder / "matrices")
    if where != "local":
        assert [folder.name.endswith("-keys") for folder in kept] == [True]
        assert not list(source.derived_folder.glob("fetched/*"))
    assert all(reader.is_whole(folder) for folder in kept)
    with pytest.raises(CacheError, match="there is no matrix; use take"):
        _ = features.matrix


def test_a_cache_smaller_than_max_local_bytes_is_mapped(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    assert opened(cache, max_local_bytes=1 << 20).matrix.shape == (17, 8)
