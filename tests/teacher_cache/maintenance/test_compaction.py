"""Compaction moves rows into fewer shards; no row is lost, changed or paid for again."""

from dataclasses import replace
from pathlib import Path

from teacher_cache import Cache, build, choose, compact, open_features, verify
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
