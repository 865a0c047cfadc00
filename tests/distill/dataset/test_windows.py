"""Windows: every row once, no group read twice, memory within the limit, and an order that mixes groups."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from distill.dataset import windows
from distill.dataset.order import batches
from distill.dataset.windows import autocorrelation, resident_rows, stream, window_batches


class Recorded:
    """FeatureRows whose features are the row numbers; it records which rows are read."""

    def __init__(self, rows):
        self.shape, self.dtype = (rows, 2), np.dtype(np.float32)
        self.taken = []

    def take(self, rows, out=None):
        self.taken.append(rows)
        return np.stack([rows, -rows], axis=1).astype(np.float32)

    def warm(self):
        pass


def scattered(sizes):
    """Return the groups of rows in random order, for groups of these sizes."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


GROUPS = st.lists(st.integers(1, 12), min_size=1, max_size=12).map(scattered)


@given(GROUPS, st.integers(1, 9), st.integers(1, 40), st.integers(0, 3))
def test_every_row_occurs_exactly_once_per_epoch(groups, batch_size, resident, epoch):
    order = window_batches(groups, batch_size, resident, key="v", seed=0, epoch=epoch)
    assert sorted(np.concatenate(order)) == list(range(len(groups)))
    assert all(len(batch) == batch_size for batch in order[:-1])


@given(GROUPS, st.integers(1, 9), st.integers(1, 20), st.integers(0, 20))
def test_each_batch_gets_its_own_rows_and_no_group_is_read_twice(groups, batch_size, resident, start):
    order = window_batches(groups, batch_size, resident, key="v", seed=0, epoch=0)[start:]
    rows = Recorded(len(groups))
    for batch, features in zip(order, stream(rows, order, groups), strict=True):
        assert features[:, 0].tolist() == batch.tolist()
    read = [int(groups[taken[0]]) for taken in rows.taken]
    assert len(read) == len(set(read))


def test_another_epoch_seed_or_view_gives_another_order():
    groups = np.repeat(np.arange(20), 10)
    orders = [
        np.concatenate(window_batches(groups, 8, 50, key=key, seed=seed, epoch=epoch)).tolist()
        for key, seed, epoch in [("v", 0, 0), ("v", 0, 0), ("w", 0, 0), ("v", 1, 0), ("v", 0, 1)]
    ]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_rows_in_memory_stay_within_the_limit(share, monkeypatch):
    groups = np.repeat(np.arange(200), 100)
    limit = int(share * len(groups)) * 8
    held = []
    plain = windows._peak_rows
    monkeypatch.setattr(windows, "_peak_rows", lambda *args: held.append(plain(*args)) or held[-1])
    order = window_batches(groups, 64, resident_rows(limit, 8, 100), key="v", seed=0, epoch=0)
    for _ in stream(Recorded(len(groups)), order, groups):
        pass
    in_flight = 2 * windows.AHEAD * 100
    assert limit / 2 < (held[0] + in_flight) * 8 <= limit


def test_a_batch_mixes_about_twice_as_many_groups_as_are_in_memory():
    groups = np.repeat(np.arange(200), 100)
    held = 10
    mixed = [len(np.unique(groups[b])) for b in window_batches(groups, 64, held * 100, key="v", seed=0, epoch=0)]
    assert np.median(mixed) > 1.5 * held


def test_autocorrelation_distinguishes_no_shuffle_windows_and_a_global_shuffle():
    groups = np.repeat(np.arange(200), 100)
    windowed = window_batches(groups, 64, 1000, key="v", seed=0, epoch=0)
    plain = batches(len(groups), 64, key="v", seed=0, epoch=0)
    assert autocorrelation(np.arange(len(groups))) > 0.99
    assert abs(autocorrelation(np.concatenate(plain))) < 0.03
    assert 0.02 < autocorrelation(np.concatenate(windowed)) < 0.12
