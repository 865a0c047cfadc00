"""Whitening: what the transform does to features, and that it doesn't depend on where they are stored."""

import numpy as np
import pytest
import torch

from distill.dataset.join import join, join_lazily
from distill.objective import whitening
from distill.objective.whitening import fit_whitening
from teacher_cache import BuildOptions, build, choose, open_features
from tests import fakes
from tests.distill.tiny import split

ROWS, WIDTH = 300, 12
GENERATOR = np.random.Generator(np.random.PCG64(0))
SCALES = 2.0 ** -np.arange(WIDTH)
FEATURES = (GENERATOR.normal(size=(ROWS, WIDTH)) * SCALES @ GENERATOR.normal(size=(WIDTH, WIDTH)) + 40).astype(
    np.float32
)


def deviations(power, components=4):
    found = fit_whitening(FEATURES, components, power)(torch.from_numpy(FEATURES))
    assert found.shape == (ROWS, components)
    assert found.mean(0).abs().max() < 1e-3
    assert found.square().mean().item() == pytest.approx(1, abs=1e-3)
    covariance = found.T @ found / ROWS
    off = covariance - torch.diag(covariance.diagonal())
    assert off.abs().max() < 1e-3, "principal components are uncorrelated"
    return covariance.diagonal().sqrt()


def test_components_are_scaled_to_a_power_of_their_singular_values():
    singular = torch.linalg.svdvals(torch.from_numpy(FEATURES - FEATURES.mean(0)))[:4]
    for power in (0.0, 0.5, 1.0):
        found = deviations(power)
        torch.testing.assert_close(found / found[0], (singular / singular[0]) ** power, rtol=1e-3, atol=1e-4)


def test_there_are_no_more_components_than_the_features_have():
    twice = np.concatenate([FEATURES[:, :3], FEATURES[:, :3]], 1)
    assert fit_whitening(twice, 64, 0.5).basis.shape == (6, 3)
    assert fit_whitening(twice, 64, 0.5).basis.is_contiguous(), "as it is when a later process reads it"
    found = fit_whitening(np.zeros((9, 5), np.float16), 64, 0.5)
    assert found(torch.zeros(9, 5)).tolist() == [[0.0]] * 9


def test_wide_features_give_the_components_of_their_covariance(monkeypatch):
    whole = fit_whitening(FEATURES, 4, 0.5)
    monkeypatch.setattr(whitening, "WIDEST", WIDTH - 1)
    few = fit_whitening(FEATURES, 4, 0.5)
    torch.testing.assert_close(few.basis, whole.basis, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("mode", ["mapped", "windows"])
def test_features_on_the_disk_give_the_same_transform_as_in_memory(cache, mode):
    rows = split(40)
    build(cache, rows.prompts, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=7))
    limit = 600 if mode == "windows" else None
    on_disk = join_lazily(rows, cache, open_features(cache, *choose(cache, None, None), max_local_bytes=limit))
    in_memory = join(rows, cache, open_features(cache, *choose(cache, None, None)))
    one, two = (fit_whitening(view.features, 4, 0.5) for view in (on_disk, in_memory))
    torch.testing.assert_close(one.basis, two.basis, rtol=1e-3, atol=1e-4)
    assert on_disk.pictures.tolist() == in_memory.pictures.tolist()
