"""Look-alikes are found among many rows without comparing all pairs; what is not alike is not reported."""

import numpy as np

from pipelines.night.lookalikes import find_lookalikes


def blocks_of(matrix, size=500):
    return lambda: iter([matrix[start : start + size] for start in range(0, len(matrix), size)])


def features(rows, length=64, seed=0):
    """Features as a network's last layer makes them: all in one direction, with a spread."""
    chooser = np.random.default_rng(seed)
    return (3 + chooser.standard_normal((rows, length))).astype(np.float16)


def test_pairs_that_look_alike_are_found_across_blocks_and_the_most_similar_comes_first():
    matrix = features(4000)
    noise = np.random.default_rng(1).standard_normal((3, 64))
    for row, (twin, scale) in enumerate([(3900, 0.01), (2100, 0.05), (777, 0.12)]):
        matrix[twin] = matrix[row] + scale * noise[row]
    found = find_lookalikes(blocks_of(matrix))
    assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 3900), (1, 2100), (2, 777)]
    assert found.rows == 4000
    assert not found.is_cut


def test_the_cosine_is_that_of_the_features_less_their_mean():
    matrix = features(300)
    matrix[200] = matrix[100] + 0.05 * np.random.default_rng(2).standard_normal(64)
    (pair,) = find_lookalikes(blocks_of(matrix)).pairs
    one, other = (matrix[row].astype(np.float64) - matrix.astype(np.float64).mean(axis=0) for row in (100, 200))
    assert abs(pair.cosine - one @ other / np.linalg.norm(one) / np.linalg.norm(other)) < 1e-3


def test_rows_that_are_not_kept_are_not_compared():
    matrix = features(300)
    matrix[200] = matrix[100]
    keep = np.ones(300, bool)
    keep[100] = False
    assert find_lookalikes(blocks_of(matrix), keep).pairs == ()


def test_a_crowd_of_equal_rows_is_cut_off_and_said_so():
    matrix = np.concatenate([features(20), np.repeat(features(1, seed=9), 3000, axis=0)])
    found = find_lookalikes(blocks_of(matrix))
    assert len(found.pairs) == 4096
    assert found.is_cut


def test_no_rows_and_features_that_are_no_numbers_are_no_error():
    assert find_lookalikes(lambda: iter([])).pairs == ()
    matrix = features(10)
    matrix[3] = np.nan
    assert find_lookalikes(blocks_of(matrix)).rows == 10
