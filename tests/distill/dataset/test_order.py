"""The order is a pure function of data, seed and epoch, and every row occurs once."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from distill.dataset.order import batches, share


@given(rows=st.integers(1, 300), size=st.integers(1, 40), seed=st.integers(0, 5), by_length=st.booleans())
def test_every_row_occurs_once_per_epoch(rows, size, seed, by_length):
    lengths = np.arange(rows) % 7 if by_length else None
    found = batches(rows, size, key="k", seed=seed, epoch=0, lengths=lengths)
    assert sorted(np.concatenate(found)) == list(range(rows))
    assert len(found) == -(-rows // size)
    assert max(len(batch) for batch in found) <= size


@pytest.mark.parametrize("change", [{"key": "other"}, {"seed": 1}, {"epoch": 1}])
def test_the_order_is_replayed_and_depends_on_each_part(change):
    same = {"key": "k", "seed": 0, "epoch": 0}
    one = np.concatenate(batches(100, 8, **same))
    assert np.array_equal(one, np.concatenate(batches(100, 8, **same)))
    assert not np.array_equal(one, np.concatenate(batches(100, 8, **{**same, **change})))


def test_rows_of_similar_length_share_a_batch_and_the_epoch_is_not_ordered_by_length():
    lengths = np.random.default_rng(0).integers(5, 60, 3200)
    plain = batches(3200, 32, key="k", seed=0, epoch=0)
    bucketed = batches(3200, 32, key="k", seed=0, epoch=0, lengths=lengths)

    def padded(found):
        return sum(lengths[batch].max() * len(batch) for batch in found) / lengths.sum()

    assert padded(bucketed) < 1.1 < 1.6 < padded(plain)
    means = [lengths[batch].mean() for batch in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.35


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 32])
def test_all_ranks_get_equally_many_rows_and_every_row_counts_on_exactly_one_rank(rows, ranks):
    batch = np.arange(100, 100 + rows)
    parts = [share(batch, rank, ranks) for rank in range(ranks)]
    assert {len(part) for part, _ in parts} == {-(-rows // ranks)}
    assert np.concatenate([part[:own] for part, own in parts]).tolist() == batch.tolist()
    assert all(set(part.tolist()) <= set(batch.tolist()) for part, _ in parts)


def test_one_process_gets_its_batches_without_a_copy_of_the_order():
    """Of ten million rows a copy takes 80 MB."""
    batch = np.arange(8)
    assert np.shares_memory(share(batch, 0, 1)[0], batch)
    assert np.shares_memory(share(batch, 1, 2)[0], batch)
