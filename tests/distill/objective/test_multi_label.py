"""The losses of a multi-label task against torch's own and against values computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.objective.losses import Outputs, head_loss, output_alignment_loss, student_loss
from distill.objective.multi_label import label_set_alignment, label_set_losses


def bernoulli(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_task_loss_is_the_mean_binary_cross_entropy():
    logits, labels = torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), torch.tensor([[0, 1], [1, 1]])
    by_hand = [math.log(2), math.log1p(math.exp(-2)), math.log1p(math.exp(1)), math.log1p(math.exp(-0.5))]
    assert head_loss(logits, labels).item() == pytest.approx(sum(by_hand) / 4)
    several = label_set_losses(torch.stack([logits, -logits]), labels)  # of two aligners
    assert several[0].tolist() == pytest.approx([sum(by_hand[:2]) / 2, sum(by_hand[2:]) / 2])
    assert several[1].mean().item() == pytest.approx(head_loss(-logits, labels).item())


def test_output_alignment_is_the_binary_divergence_of_each_label_with_a_temperature():
    a, s = torch.tensor([[2.0, -4.0]]), torch.tensor([[0.0, 6.0]])
    by_hand = 4 * (bernoulli(sigmoid(1), sigmoid(0)) + bernoulli(sigmoid(-2), sigmoid(3))) / 2
    assert label_set_alignment(a, s, 2.0).item() == pytest.approx(by_hand, rel=1e-5)
    assert label_set_alignment(a, a, 2.0).item() == pytest.approx(0.0, abs=1e-7)
    labels = torch.distributions.Bernoulli(logits=a / 5), torch.distributions.Bernoulli(logits=s / 5)
    expected = 25 * torch.distributions.kl_divergence(*labels).mean()
    assert label_set_alignment(a, s, 5.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_extreme_logits_give_finite_losses_and_gradients():
    a = torch.tensor([[200.0, -200.0, 0.0]])
    s = torch.tensor([[-200.0, 200.0, 0.0]], requires_grad=True)
    loss = label_set_alignment(a, s, 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.allclose(s.grad, torch.tensor([[-1 / 3, 1 / 3, 0.0]]))


def test_the_whole_loss_of_a_student_has_both_terms_on_both_heads():
    generator = torch.Generator().manual_seed(0)
    a, a2, s, s2 = (torch.randn(4, 3, generator=generator) for _ in range(4))
    points = torch.randn(4, 6, generator=generator)
    labels = (torch.rand(4, 3, generator=generator) < 0.5).long()
    aligner, student = Outputs(a, a2, points), Outputs(s, s2, points)
    weights = {"manifold": "none", "alpha": 0.3, "beta": 0.0, "gamma": 0.5, "temperature": 2.0}
    found = student_loss(aligner, student, labels, **weights)
    task = F.binary_cross_entropy_with_logits(s, labels.float())
    task += 0.5 * F.binary_cross_entropy_with_logits(s2, labels.float())
    alignment = label_set_alignment(a, s, 2.0) + 0.5 * label_set_alignment(a2, s2, 2.0)
    assert found.task.item() == pytest.approx(task.item())
    assert found.output_alignment.item() == pytest.approx(alignment.item())
    assert found.total.item() == pytest.approx((0.3 * alignment + 0.7 * task).item())
    assert output_alignment_loss(aligner, student, 0.5, 2.0).item() != pytest.approx(alignment.item())
