"""A vacuum removes only what is replaced, old enough, and contained in sound shards."""

import os
import time
from pathlib import Path

import pytest

from teacher_cache import Cache, CacheError, Provenance, build, compact, verify
from teacher_cache.maintenance.vacuum import remove_replaced
from tests import fakes
from tests.teacher_cache.maintenance.caches import PROMPTS, adapters, builds_for_free, rows_of

HOUR = 3600


def vacuum(cache, hours=0.0, later=0.0):
    return remove_replaced(cache, hours, lambda: time.time() + later)


def files(cache):
    return set(Path(str(cache.store)).rglob("*.parquet")) | set(Path(str(cache.store)).rglob("*.tar"))


def test_replaced_files_stay_for_the_retention_time_which_is_a_day_by_default(built):
    replaced = files(built)
    compact(built)
    assert compact(built, vacuum=True).removed == 0
    assert vacuum(built, 24, 23 * HOUR).files == 0
    assert vacuum(built, 24, 25 * HOUR).files == len(replaced)
    assert builds_for_free(built)


def test_the_retention_time_begins_when_a_replacement_arrives_by_a_copy(built):
    compact(built)
    for path in Path(str(built.store)).glob("commits/*.json"):
        os.utime(path, (time.time() + 20 * HOUR,) * 2)
    assert vacuum(built, 24, 25 * HOUR).files == 0
    assert vacuum(built, 24, 45 * HOUR).files > 0


@pytest.mark.parametrize("how", ["truncate", "flip", "delete"])
@pytest.mark.parametrize("pattern", ["images/*/shards/*.tar", "images/*/indexes/*", "features/*/*/shards/*.parquet"])
def test_files_stay_if_what_replaces_them_is_damaged(built, pattern, how):
    before, old = rows_of(built), files(built)
    compact(built)
    (new,) = [path for path in Path(str(built.store)).glob(pattern) if path not in old]
    data = bytearray(new.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "delete":
        new.unlink()
    else:
        new.write_bytes(data if how == "flip" else data[:-9])
    done = vacuum(built)
    kinds = new.relative_to(str(built.store)).parts[0]
    assert done.files == sum(kinds not in path.parts for path in old)
    if how == "flip":
        assert {path.split("/")[0] for path in done.kept} == {kinds}
    verify(built.store.url, repair=True)
    again = Cache(built.store.url)
    assert rows_of(again) == before
    assert builds_for_free(again)
    assert verify(again.store.url).problems == []


def test_nothing_is_removed_while_a_commit_cannot_be_read(built):
    compact(built)
    next(Path(str(built.store)).glob("checkpoints/*.json")).unlink()
    path = next(Path(str(built.store)).glob("commits/*.json"))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(CacheError, match="a commit can't be read and may name any file, so that nothing was removed"):
        vacuum(Cache(built.store.url))
    path.write_bytes(data)
    assert vacuum(Cache(built.store.url)).files > 0


def test_pictures_that_a_commit_replaces_without_containing_them_are_not_removed(built):
    """A colleague's commit says that one tar replaces all."""
    teacher = built.teachers()[0]
    first, *others = built.shards(f"images/{teacher.name}/")
    built.commit([first], replaced=built.state.entries_of(others), **Provenance(time.time).now())
    kept = vacuum(built).kept
    assert {shard.path for shard in others} == set(kept)
    assert all(reason.endswith("of its rows are in no other shard") for reason in kept.values())
    assert all(built.store.exists(shard.path) for shard in others)


def test_features_that_all_belong_to_pictures_that_are_not_canonical_are_removed(tmp_path, monkeypatch):
    """Two people drew the same prompts; all features of one of them are of pictures that lost."""
    caches = []
    for name, change in (("a", 0), ("b", 1)):
        cache = Cache(str(tmp_path / name), create=True)
        teacher, encoder = adapters()
        monkeypatch.setattr(
            teacher, "_answer", lambda r, n=change: fakes.Picture(r.image_key, fakes.png(r.seed + n), "png", None, 0.1)
        )
        for prompt in PROMPTS[:6]:
            build(cache, [prompt], teacher, encoder)
        caches.append(cache)
    from teacher_cache import merge

    merge([caches[1]], caches[0])
    build(caches[0], PROMPTS[:6], *adapters())
    before = rows_of(caches[0])
    while compact(caches[0], shard_rows=2).shards_before > len(caches[0].shards()):
        assert rows_of(caches[0]) == before
    vacuum(caches[0])
    assert rows_of(caches[0]) == before
    assert verify(caches[0].store.url).problems == []
    assert build(caches[0], PROMPTS[:6], *adapters()).calls == 0
