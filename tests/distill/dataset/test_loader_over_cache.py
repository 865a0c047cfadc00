"""The loader over a cache: features in memory, mapped and in windows, also after the cache has changed."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from distill.dataset.join import join, join_lazily
from distill.dataset.loader import Loader
from distill.tasks.splits import Split
from teacher_cache import ArmadaError, BuildOptions, Cache, CacheError, build, choose, compact, open_features
from tests import fakes
from tests.distill.tiny import split

ROWS = split(40)
WINDOWS = {"max_local_bytes": 600}


@pytest.fixture
def built(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=5))
    return cache


def loader_of(cache, rows=ROWS, mode="memory", **options):
    """Return a loader and its view, with features in memory, mapped or in windows."""
    limit = WINDOWS["max_local_bytes"] if mode == "windows" else None
    features = open_features(cache, *choose(cache, None, None), max_local_bytes=limit)
    view = (join if mode == "memory" else join_lazily)(rows, cache, features)
    return Loader(view.features, view.digest, 6, max_local_bytes=limit, **options), view


def batches_of(loader, epochs=1):
    return [(batch.rows.tolist(), batch.features.numpy().tobytes()) for _ in range(epochs) for batch in loader]


MODES = ["memory", "mapped", "windows"]


@pytest.mark.parametrize("mode", MODES)
def test_each_row_comes_with_its_own_feature_for_any_ranks(built, mode):
    plain = join(ROWS, built, open_features(built, *choose(built, None, None)))
    rows = []
    for rank in range(3):
        loader, _ = loader_of(built, mode=mode, rank=rank, ranks=3)
        for batch in loader:
            assert np.array_equal(batch.features.numpy(), plain.features[batch.rows])
            rows += batch.rows[: batch.own].tolist()
    assert sorted(rows) == list(range(40))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", ["prompts added", "compaction", "vacuum"])
@pytest.mark.parametrize("step", [0, 3, 7, 9])
def test_a_resumed_run_is_unchanged_if_the_cache_grew_or_was_compacted(built, mode, change, step):
    unbroken = batches_of(loader_of(built, mode=mode)[0], epochs=2)
    loader, view = loader_of(built, mode=mode)
    steps = itertools.chain(iter(loader), iter(loader))
    before = [(b.rows.tolist(), b.features.numpy().tobytes()) for b in itertools.islice(steps, step)]
    state = loader.state_dict()
    if change == "prompts added":
        build(built, [f"new {i}" for i in range(7)], fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=3))
    else:
        compact(built, vacuum=change == "vacuum")
    again, same = loader_of(built, mode=mode)
    again.load_state_dict(state)
    assert same.digest == view.digest
    assert before + batches_of(again, epochs=2 - again.epoch) == unbroken


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", ["label", "row", "feature", "picture"])
def test_a_state_is_refused_after_a_change_of_row_label_feature_or_picture(built, mode, change, tmp_path, monkeypatch):
    loader, _ = loader_of(built, mode=mode)
    next(iter(loader))
    state = loader.state_dict()
    rows, cache = ROWS, built
    if change == "label":
        rows = Split(ROWS.ids, ROWS.texts, ROWS.prompts, [*ROWS.labels[:-1], 1 - ROWS.labels[-1]])
    elif change == "row":
        rows = ROWS.first(39)
    else:
        cache = Cache(str(tmp_path / "other"), create=True)
        teacher, encoder = fakes.teacher(), fakes.encoder()
        if change == "feature":  # as from another machine, where numbers differ slightly
            plain = encoder.encode
            monkeypatch.setattr(encoder, "encode", lambda p, t: plain(p, t) * np.float32(1.002))
        else:
            monkeypatch.setattr(
                teacher, "_answer", lambda r: fakes.Picture(r.image_key, fakes.png(r.seed + 1), "png", None, 0.1)
            )
        build(cache, ROWS.prompts, teacher, encoder, BuildOptions(shard_rows=5))
    again, _ = loader_of(cache, rows, mode)
    with pytest.raises(ArmadaError, match="the saved state is of another run: expected view"):
        again.load_state_dict(state)


@pytest.mark.parametrize("mode", ["mapped", "windows"])
def test_a_compaction_during_an_epoch_changes_no_batch(built, mode):
    unbroken = batches_of(loader_of(built, mode=mode)[0])
    loader, _ = loader_of(built, mode=mode)
    found = []
    for number, batch in enumerate(loader):
        found.append((batch.rows.tolist(), batch.features.numpy().tobytes()))
        if number == 1:
            compact(built, vacuum=True)
    assert found == unbroken


def test_a_shard_that_is_removed_after_opening_stops_the_epoch(built):
    loader, _ = loader_of(built, mode="windows")
    for path in Path(str(built.store)).glob("features/*/*/shards/*"):
        path.unlink()
    with pytest.raises(CacheError, match="a shard was removed since it was opened"):
        list(loader)


def test_a_mapped_view_has_the_digest_of_the_one_in_memory(built):
    digests = {mode: loader_of(built, mode=mode)[1].digest for mode in MODES}
    assert digests["memory"] == digests["mapped"] != digests["windows"]


def test_the_shuffled_control_is_the_same_in_all_modes(built):
    features = open_features(built, *choose(built, None, None))
    windowed = open_features(built, *choose(built, None, None), **WINDOWS)
    plain = join(ROWS, built, features, control="shuffled", seed=5)
    for source in (features, windowed):
        lazy = join_lazily(ROWS, built, source, control="shuffled", seed=5)
        assert np.array_equal(lazy.features.take(np.arange(40)), plain.features)


def test_damage_that_is_found_during_training_stops_it(built):
    loader, _ = loader_of(built, mode="mapped")
    (path,) = built.derived_folder.glob("matrices/*/features.npy")
    with path.open("r+b") as stream:
        stream.seek(-3, 2)
        byte = stream.read(1)
        stream.seek(-3, 2)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CacheError, match="rows differ from their checksums"):
        batches_of(loader)


def test_windows_need_a_limit_and_take_no_lengths(built):
    features = open_features(built, *choose(built, None, None), **WINDOWS)
    view = join_lazily(ROWS, built, features)
    for options in ({}, {"lengths": np.arange(40), **WINDOWS}):
        with pytest.raises(ArmadaError, match="in windows of shards need max_local_bytes"):
            Loader(view.features, view.digest, 6, **options)
