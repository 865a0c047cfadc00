"""The loader: every row once, the same batches whoever reads them, and a state that goes on exactly where it was."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import DataLoader

from distill.dataset.join import join, join_lazily
from distill.dataset.loader import Loader, on_device
from distill.dataset.order import batches
from distill.tasks.splits import Split
from teacher_cache import ArmadaError, BuildOptions, CacheError, build, choose, compact, open_features
from tests import fakes
from tests.distill.tiny import split

ROWS = split(40)
WINDOWS = {"max_local_bytes": 600}


def matrix(rows):
    """(rows, 2): a row's features say which one it is."""
    return np.stack([np.arange(rows), -np.arange(rows)], axis=1).astype(np.float32)


def seen(loader):
    """An epoch: (row numbers, own), and each row's features are its own."""
    found = []
    for batch in loader:
        assert batch.features[:, 0].tolist() == batch.rows.tolist()
        found.append((batch.rows.tolist(), batch.own))
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 17), st.sampled_from([1, 2, 3, 8]), st.sampled_from([0, 1, 4]), st.booleans())
def test_every_row_once_an_epoch_and_equal_counts_a_rank(rows, batch_size, ranks, threads, by_length):
    lengths = np.arange(rows) % 7 if by_length else None
    plain = batches(rows, batch_size, key="v", seed=3, epoch=0, lengths=lengths)
    parts = [
        seen(Loader(matrix(rows), "v", batch_size, seed=3, rank=rank, ranks=ranks, threads=threads, lengths=lengths))
        for rank in range(ranks)
    ]
    for number, batch in enumerate(plain):
        sizes = {len(part[number][0]) for part in parts}
        assert sizes == {-(-len(batch) // ranks)}
        assert [row for part in parts for row in part[number][0][: part[number][1]]] == batch.tolist()
    assert {len(part) for part in parts} == {len(plain)}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_a_resumed_run_equals_the_unbroken_one_whatever_the_ranks_and_threads(rows, batch_size, data):
    per_epoch = -(-rows // batch_size)
    stop = data.draw(st.integers(0, 3 * per_epoch))
    unbroken = Loader(matrix(rows), "v", batch_size)
    expected = [batch.rows.tolist() for _ in range(3) for batch in unbroken]

    first = Loader(matrix(rows), "v", batch_size, threads=data.draw(st.sampled_from([0, 1, 4])))
    steps = itertools.chain.from_iterable(iter(first) for _ in range(3))
    before = [batch.rows.tolist() for batch in itertools.islice(steps, stop)]
    state = first.state_dict()

    ranks = data.draw(st.sampled_from([1, 2, 3]))
    parts = []
    for rank in range(ranks):
        loader = Loader(matrix(rows), "v", batch_size, rank=rank, ranks=ranks)
        loader.load_state_dict(state)
        left = 3 - loader.epoch
        parts.append([batch.rows[: batch.own].tolist() for _ in range(left) for batch in loader])
    after = [list(itertools.chain(*pieces)) for pieces in zip(*parts, strict=True)]
    assert before + after == expected


def test_left_in_the_middle_it_goes_on_and_the_next_epoch_has_another_order():
    loader = Loader(matrix(20), "v", 6)
    first = [batch.rows.tolist() for batch in itertools.islice(loader, 2)]
    rest = [rows for rows, _ in seen(loader)]
    assert sorted(itertools.chain(*first, *rest)) == list(range(20))
    assert loader.epoch == 1
    assert [rows for rows, _ in seen(loader)] != first + rest
    assert seen(Loader(matrix(20), "v", 6, seed=1)) != seen(Loader(matrix(20), "v", 6, seed=0))


@pytest.mark.parametrize(
    ("change", "name"),
    [({"view": "w"}, "view"), ({"seed": 1}, "seed"), ({"batch_size": 5}, "batch_size"), ({"lengths": 1}, "order")],
)
def test_a_state_of_another_run_is_refused(change, name):
    settings = {"view": "v", "batch_size": 6, "seed": 0}
    state = Loader(matrix(20), **settings).state_dict()
    changed = {**settings, **change}
    if "lengths" in change:
        changed["lengths"] = np.arange(20)
    with pytest.raises(ArmadaError, match=f"the saved state is of another run: expected {name} "):
        Loader(matrix(20), **changed).load_state_dict(state)


def test_worker_processes_are_refused_rather_than_give_rows_twice():
    with pytest.raises(ArmadaError, match="expected num_workers=0"):
        list(DataLoader(Loader(matrix(20), "v", 6), batch_size=None, num_workers=2))


def test_a_tensor_is_gathered_where_it_is():
    assert seen(Loader(torch.from_numpy(matrix(20)), "v", 6)) == seen(Loader(matrix(20), "v", 6))


def test_without_a_gpu_no_matrix_is_put_on_one():
    assert on_device(matrix(20), "cpu") is None


def test_a_state_survives_torch_save(tmp_path):
    loader = Loader(matrix(20), "v", 6)
    next(iter(loader))
    torch.save(loader.state_dict(), tmp_path / "state.pt")
    again = Loader(matrix(20), "v", 6)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert seen(again) == seen(loader)


def test_torchdata_saves_and_resumes_it():
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    expected = [rows for rows, _ in seen(Loader(matrix(20), "v", 6))]
    wrapped = stateful(Loader(matrix(20), "v", 6, threads=0), batch_size=None)
    first = [batch.rows.tolist() for batch in itertools.islice(wrapped, 2)]
    again = stateful(Loader(matrix(20), "v", 6, threads=0), batch_size=None)
    again.load_state_dict(wrapped.state_dict())
    assert first + [batch.rows.tolist() for batch in again] == expected


# Over a real cache


@pytest.fixture
def built(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=5))
    return cache


def loader_of(cache, rows=ROWS, mode="memory", **options):
    """A loader of a view, its features in memory, mapped or in windows."""
    limit = WINDOWS["max_local_bytes"] if mode == "windows" else None
    features = open_features(cache, *choose(cache, None, None), max_local_bytes=limit)
    view = (join if mode == "memory" else join_lazily)(rows, cache, features)
    return Loader(view.features, view.digest, 6, max_local_bytes=limit, **options), view


def batches_of(loader, epochs=1):
    return [(batch.rows.tolist(), batch.features.numpy().tobytes()) for _ in range(epochs) for batch in loader]


MODES = ["memory", "mapped", "windows"]


@pytest.mark.parametrize("mode", MODES)
def test_each_row_comes_beside_its_own_feature_for_any_ranks(built, mode):
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
def test_a_cache_that_grew_or_was_compacted_changes_nothing(built, mode, change, step):
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
def test_a_changed_row_label_feature_or_picture_refuses_the_state(built, mode, change, tmp_path, monkeypatch):
    loader, _ = loader_of(built, mode=mode)
    next(iter(loader))
    state = loader.state_dict()
    rows, cache = ROWS, built
    if change == "label":
        rows = Split(ROWS.ids, ROWS.texts, ROWS.prompts, [*ROWS.labels[:-1], 1 - ROWS.labels[-1]])
    elif change == "row":
        rows = ROWS.first(39)
    else:
        from teacher_cache import Cache

        cache = Cache(str(tmp_path / "other"), create=True)
        teacher, encoder = fakes.teacher(), fakes.encoder()
        if change == "feature":  # the same encoder on another machine: one number differs in its last bit
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
def test_a_compaction_in_the_midst_of_an_epoch_changes_no_batch(built, mode):
    unbroken = batches_of(loader_of(built, mode=mode)[0])
    loader, _ = loader_of(built, mode=mode)
    found = []
    for number, batch in enumerate(loader):
        found.append((batch.rows.tolist(), batch.features.numpy().tobytes()))
        if number == 1:
            compact(built, vacuum=True)
    assert found == unbroken


def test_a_shard_lost_after_the_opening_stops_the_epoch(built):
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


def test_damage_found_while_training_stops_it(built):
    loader, _ = loader_of(built, mode="mapped")
    (path,) = built.machine_folder.glob("matrices/*/features.npy")
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
