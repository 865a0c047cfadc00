"""Compaction moves rows into fewer shards; no row is lost, changed or paid for again."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from teacher_cache import Cache, Provenance, build, choose, commit_features, compact, open_features, sha256, verify
from teacher_cache.encoders import source_of_encoder
from teacher_cache.files.store import Store
from teacher_cache.format.columns import FAILURE_COLUMNS, FEATURE_FACTS
from teacher_cache.maintenance import compaction
from teacher_cache.storage import cache as storage
from teacher_cache.storage.state import cache_state
from teacher_cache.storage.writing import commit_failures
from teacher_cache.teachers import source_of_teacher
from tests.teacher_cache.maintenance.caches import PROMPTS, SMALL, adapters, builds_for_free, rows_of


def test_compaction_merges_small_shards_and_changes_no_row(built):
    before = rows_of(built)
    done = compact(built)
    assert done.shards_before > done.shards_after == 2
    assert done.removed == 0
    assert rows_of(built) == before
    assert builds_for_free(built)
    assert verify(built.store.url).problems == []


def test_vacuum_removes_all_replaced_files_and_compaction_without_it_none(built):
    files = set(Path(str(built.store)).rglob("*.parquet")) | set(Path(str(built.store)).rglob("*.tar"))
    before = rows_of(built)
    compact(built)
    assert all(file.exists() for file in files)
    done = compact(built, vacuum=True, retain_hours=0)
    assert done.removed == len(files)
    assert not any(file.exists() for file in files)
    assert rows_of(built) == before
    assert verify(built.store.url).problems == []


def test_compacting_again_does_nothing(built):
    compact(built)
    commits = built.store.names("commits")
    compact(built)
    assert built.store.names("commits") == commits


def test_if_a_compacted_shard_is_lost_the_shards_that_it_replaced_are_live_again(built):
    before = rows_of(built)
    compact(built)
    for shard in built.shards():
        built.store.remove(shard.path)
    again = Cache(built.store.url)
    assert rows_of(again) == before
    assert builds_for_free(again)


def test_a_shard_with_the_digest_of_a_vacuumed_one_is_live_again(built):
    """Otherwise each build would draw the same pictures and seal them into a shard that counts as replaced."""
    compact(built, vacuum=True, retain_hours=0)
    for shard in built.shards():
        built.store.remove(shard.path)
    teacher, encoder = adapters()
    assert build(built, PROMPTS, teacher, encoder, replace(SMALL, redraw_missing=True)).calls == 30
    assert builds_for_free(built)


def test_compaction_does_not_change_the_digest_of_a_join(built):
    from distill.dataset.join import join
    from tests.distill.tiny import split

    rows = split(10)
    build(built, rows.prompts, *adapters(), SMALL)
    before = join(rows, built, open_features(built, *choose(built, None, None))).digest
    compact(built, vacuum=True, retain_hours=0)
    assert join(rows, built, open_features(built, *choose(built, None, None))).digest == before


@pytest.mark.parametrize("kind", ["features", "failures"])
def test_compaction_lists_a_cache_as_often_for_many_shards_as_for_few(tmp_path, monkeypatch, kind):
    """Listing and the state take time in proportion to the shards: anew for each group of them, the square of it."""
    states, listings, found = [], [], []
    sizes = Store.sizes
    monkeypatch.setattr(storage, "cache_state", lambda *given: states.append(1) or cache_state(*given))
    monkeypatch.setattr(Store, "sizes", lambda store, folder: listings.append(folder) or sizes(store, folder))
    for groups in (2, 6):
        cache = small_shards(tmp_path / str(groups), 2 * groups, kind)
        states.clear()
        listings.clear()
        done = compact(cache, shard_rows=4)
        assert (done.shards_before, done.shards_after) == (2 * groups, groups)
        found.append((len(states), listings.copy()))
    assert found[0] == found[1]


def test_compaction_reads_each_shard_of_features_once(tmp_path, monkeypatch):
    cache = small_shards(tmp_path / "cache", 6)
    read = []
    for name in ("read", "open"):
        method = getattr(Store, name)
        monkeypatch.setattr(Store, name, lambda store, path, method=method: read.append(path) or method(store, path))
    before = [shard.path for shard in cache.shards()]
    assert compact(cache, shard_rows=4).shards_after == 3
    assert sorted(path for path in read if path.endswith(".parquet")) == before


def test_compaction_leaves_what_another_process_added_meanwhile(tmp_path, monkeypatch):
    """It replaces the entries that it has seen. The same shard in a later commit of someone else counts as before."""
    cache = small_shards(tmp_path / "cache", 4)
    *_, last = cache.shards()
    features, added = compaction.commit_features, []

    def commit_and_add(*given, **named):
        shard = features(*given, **named)
        if not added:
            added.append(Cache(cache.store.url).commit([last], **Provenance(time.time, "another").now()))
        return shard

    monkeypatch.setattr(compaction, "commit_features", commit_and_add)
    compact(cache, shard_rows=4)
    assert last.path in {shard.path for shard in cache.shards()}
    monkeypatch.undo()
    assert verify(cache.store.url).problems == []
    compact(cache, shard_rows=100, vacuum=True, retain_hours=0)
    assert [shard.rows for shard in cache.shards()] == [8]


def small_shards(folder: Path, count: int, kind: str = "features") -> Cache:
    """Return a cache of shards of two rows each."""
    cache = Cache(str(folder), create=True)
    fake_teacher, fake_encoder = adapters()
    teacher, encoder = source_of_teacher(fake_teacher), source_of_encoder(fake_encoder)
    cache.register(teacher, encoder)
    for number in range(count):
        keys = [sha256(f"{number} {row}".encode()) for row in range(2)]
        facts = {"image_key": keys, "image_sha256": keys, "prompt_key": keys, "sample": [0, 0]}
        if kind == "features":
            rows, vectors = pa.table(facts, FEATURE_FACTS), np.ones((2, fake_encoder.dimension), np.float32)
            commit_features(cache, teacher, encoder, rows, vectors, Provenance(time.time))
        else:
            facts |= {name: ["refused"] * 2 for name in ("prompt", "reason", "message")}
            facts |= {"attempts": [1, 1], "cost_usd": [None, None]}
            commit_failures(cache, teacher, pa.table(facts, FAILURE_COLUMNS), Provenance(time.time))
    return cache
