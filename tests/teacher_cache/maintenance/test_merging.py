"""A merged cache has the rows of all its sources, unless a source is damaged."""

from pathlib import Path

import pytest

from teacher_cache import Cache, CacheError, build, compact, merge, verify
from tests.teacher_cache.maintenance.caches import PROMPTS, SMALL, adapters, builds_for_free, rows_of


def test_merging_is_a_union_and_merging_again_changes_nothing(tmp_path):
    caches = []
    for name, prompts in (("a", PROMPTS[:20]), ("b", PROMPTS[10:])):
        caches.append(Cache(str(tmp_path / name), create=True))
        build(caches[-1], prompts, *adapters(), SMALL)
    target = Cache(str(tmp_path / "target"), create=True)
    first = merge(caches, target)
    assert first.files > 0
    assert rows_of(target) == {**rows_of(caches[0]), **rows_of(caches[1])}
    assert builds_for_free(target)
    again = merge(caches, target)
    assert (again.files, again.commits) == (0, 0)


def test_merging_copies_a_compacted_cache_without_what_was_vacuumed(built, tmp_path):
    before = rows_of(built)
    compact(built, vacuum=True, retain_hours=0)
    target = Cache(str(tmp_path / "target"), create=True)
    assert merge([built], target).missing == []
    assert rows_of(target) == before
    assert verify(target.store.url).problems == []


def test_merging_a_damaged_cache_names_the_file_and_adds_no_shard(built, tmp_path):
    path = next(Path(str(built.store)).glob("features/*/*/shards/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    target = Cache(str(tmp_path / "target"), create=True)
    with pytest.raises(CacheError, match=r"sha256 differs from the commit's; run .* there"):
        merge([built], target)
    assert target.shards() == []


def test_merging_names_a_missing_shard_and_copies_the_rest(built, tmp_path):
    shard = built.shards("features/")[0]
    built.store.remove(shard.path)
    target = Cache(str(tmp_path / "target"), create=True)
    assert merge([built], target).missing == [f"{built.store}/{shard.path}"]
    assert len(rows_of(target)) == 30


def test_merging_over_fsspec(built, tmp_path):
    target = Cache(f"memory://merge-{tmp_path.name}", create=True)
    merge([built], target)
    assert rows_of(target) == rows_of(built)
