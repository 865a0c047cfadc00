"""The loader: every row once per epoch, the same batches for any ranks and threads, and a state that resumes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import DataLoader

from distill.dataset.loader import Loader
from distill.dataset.moving import on_device
from distill.dataset.order import batches
from teacher_cache import ArmadaError


def matrix(rows):
    """Return features (rows, 2) that identify their row."""
    return np.stack([np.arange(rows), -np.arange(rows)], axis=1).astype(np.float32)


def seen(loader):
    """Return (row numbers, own) of each batch of an epoch, after checking that each row has its own features."""
    found = []
    for batch in loader:
        assert batch.features[:, 0].tolist() == batch.rows.tolist()
        found.append((batch.rows.tolist(), batch.own))
    return found


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 17), st.sampled_from([1, 2, 3, 8]), st.sampled_from([0, 1, 4]), st.booleans())
def test_every_row_occurs_once_per_epoch_and_all_ranks_get_equally_many(rows, batch_size, ranks, threads, by_length):
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
def test_a_resumed_run_equals_an_uninterrupted_one_for_any_ranks_and_threads(rows, batch_size, data):
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


def test_an_interrupted_iteration_continues_and_the_next_epoch_has_another_order():
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


def test_worker_processes_are_refused_because_they_would_repeat_rows():
    with pytest.raises(ArmadaError, match="expected num_workers=0"):
        list(DataLoader(Loader(matrix(20), "v", 6), batch_size=None, num_workers=2))


def test_a_tensor_gives_the_same_batches_as_an_array():
    assert seen(Loader(torch.from_numpy(matrix(20)), "v", 6)) == seen(Loader(matrix(20), "v", 6))


def test_without_a_gpu_features_stay_where_they_are():
    assert on_device(matrix(20), "cpu") is None


def test_a_state_survives_torch_save(tmp_path):
    loader = Loader(matrix(20), "v", 6)
    next(iter(loader))
    torch.save(loader.state_dict(), tmp_path / "state.pt")
    again = Loader(matrix(20), "v", 6)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert seen(again) == seen(loader)


def test_torchdata_saves_and_resumes_a_loader():
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    expected = [rows for rows, _ in seen(Loader(matrix(20), "v", 6))]
    wrapped = stateful(Loader(matrix(20), "v", 6, threads=0), batch_size=None)
    first = [batch.rows.tolist() for batch in itertools.islice(wrapped, 2)]
    again = stateful(Loader(matrix(20), "v", 6, threads=0), batch_size=None)
    again.load_state_dict(wrapped.state_dict())
    assert first + [batch.rows.tolist() for batch in again] == expected
