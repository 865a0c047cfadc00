"""The contrast with the bank: its value, what it leaves out, and what a large bank draws."""

import numpy as np
import pytest
import torch

from distill.objective import contrast
from distill.objective.contrast import TEMPERATURE, Bank, bank_of, contrast_loss
from distill.objective.cross_fitting import as_float

CPU = torch.device("cpu")
EYE = torch.eye(3)


def test_the_loss_is_that_of_a_classifier_over_the_own_features_and_the_bank():
    bank = Bank(EYE, torch.tensor([0, 1, 2]))
    own, e = EYE[:1] * 7, np.exp(1 / TEMPERATURE)
    found = contrast_loss(EYE[:1] * 3, own, torch.tensor([0]), bank)
    assert found.item() == pytest.approx(-np.log(e / (e + 2)), rel=1e-4, abs=1e-6)
    wrong = contrast_loss(EYE[1:2], own, torch.tensor([0]), bank)
    assert wrong.item() == pytest.approx(-np.log(1 / (1 + e + 1)), rel=1e-4, abs=1e-6)


def test_the_same_picture_of_another_row_is_never_a_wrong_answer():
    bank = Bank(EYE, torch.tensor([4, 4, 4]))
    student = EYE[1:2].clone().requires_grad_()
    loss = contrast_loss(student, EYE[:1], torch.tensor([4]), bank)
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, student)
    assert not gradient.any()


def test_a_small_bank_has_all_features_and_a_large_one_another_part_in_each_epoch(monkeypatch):
    features, pictures = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), np.arange(50) + 100

    def bank(epoch, seed=0):
        return bank_of(features, as_float, pictures, CPU, "key", seed, epoch)

    assert bank(0).pictures.tolist() == pictures.tolist()
    assert bank(0).points.norm(dim=1).allclose(torch.ones(50))
    monkeypatch.setattr(contrast, "BANK", 20)
    one, again, other = bank(0), bank(0), bank(1)
    assert one.pictures.tolist() == again.pictures.tolist() != other.pictures.tolist()
    assert one.points.shape == (20, 3)
    expected = features[one.pictures.numpy() - 100]
    np.testing.assert_allclose(
        one.points.numpy(), expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5
    )
