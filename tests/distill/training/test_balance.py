"""The balance of gradients: what is weighted how, and by what."""

import pytest
import torch

from distill.training.balance import DECAY, GradientBalance

CPU = torch.device("cpu")


def terms_of(pooled, factors):
    return torch.stack([factor * pooled.sum() for factor in factors])


def test_each_teachers_term_gets_the_gradient_norm_of_the_task_and_the_first_step_only_measures():
    balance, pooled = GradientBalance(3, (1, 2), CPU), torch.ones(4, 2, requires_grad=True)
    assert balance.scales().tolist() == [1, 0, 0]
    balance.measure(terms_of(pooled, [2.0, 0.5, 50.0]), pooled, 1.0)
    assert balance.scales().tolist() == [1, 0, 0], "a step is weighted by the steps before it"
    balance.end_step()
    assert balance.scales().tolist() == pytest.approx([1, 4, 0.04])


def test_terms_that_are_not_balanced_keep_their_weight():
    balance, pooled = GradientBalance(3, (2,), CPU), torch.ones(4, 2, requires_grad=True)
    balance.measure(terms_of(pooled, [2.0, 0.5, 50.0]), pooled, 1.0)
    balance.end_step()
    assert balance.scales().tolist() == pytest.approx([1, 1, 0.04])


def test_a_batch_in_parts_is_measured_as_a_whole():
    whole, parts = GradientBalance(2, (1,), CPU), GradientBalance(2, (1,), CPU)
    pooled = torch.randn(6, 3, requires_grad=True)

    def terms(rows):
        return torch.stack([rows.square().mean(0).sum(), (3 * rows).sin().mean(0).sum()])

    whole.measure(terms(pooled), pooled, 1.0)
    for rows in (pooled[:2].detach().requires_grad_(), pooled[2:].detach().requires_grad_()):
        parts.measure(terms(rows), rows, len(rows) / 6)
    whole.end_step()
    parts.end_step()
    torch.testing.assert_close(whole.state_dict()["norms"], parts.state_dict()["norms"])


def test_a_term_without_a_gradient_is_left_alone_and_the_mean_runs():
    balance, pooled = GradientBalance(3, (1, 2), CPU), torch.ones(1, 1, requires_grad=True)
    for size in (1.0, 3.0):
        balance.measure(torch.stack([size * pooled.sum(), pooled.sum(), torch.zeros(())]), pooled, 1.0)
        balance.end_step()
    assert balance.scales().tolist() == pytest.approx([1, (DECAY + 3) / (DECAY + 1), 0])
    other = GradientBalance(3, (1, 2), CPU)
    other.load_state_dict(balance.state_dict())
    assert torch.equal(other.scales(), balance.scales())
