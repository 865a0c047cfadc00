"""The low-rank step equals the exact Cayley step, decreases the loss and keeps the matrix orthogonal."""

import torch

from distill.objective.orthogonal import CayleyDescent, orthogonality_error

L, B = 48, 8


def start(seed=0):
    return torch.nn.init.orthogonal_(torch.empty(L, L), generator=torch.Generator().manual_seed(seed))


def test_one_step_equals_the_cayley_transform_with_the_full_gradient():
    torch.manual_seed(0)
    matrix, z, gradient = start(), torch.randn(B, L), torch.randn(B, L)
    full = gradient.T @ z  # dL/dO
    skew = full @ matrix.T - matrix @ full.T
    rate = 0.05 / skew.norm()
    identity = torch.eye(L)
    expected = torch.linalg.solve(identity + rate / 2 * skew, (identity - rate / 2 * skew) @ matrix)

    moved = matrix.clone()
    CayleyDescent(moved, angle=0.05).step(z @ matrix.T, gradient)
    assert torch.allclose(moved, expected, atol=1e-5)
    assert not torch.allclose(moved, matrix, atol=1e-3)


def test_it_stays_orthogonal_over_a_long_epoch():
    torch.manual_seed(0)
    matrix = start()
    descent = CayleyDescent(matrix, angle=0.05)
    for _ in range(3000):
        descent.step(torch.randn(B, L) @ matrix.T, torch.randn(B, L))
    assert orthogonality_error(matrix) < 1e-4
    descent.restore()
    assert orthogonality_error(matrix) < 2e-6


def test_it_finds_a_rotation():
    """Minimise |z Oᵀ - z Rᵀ|² for a rotation R that is half a radian away."""
    torch.manual_seed(0)
    matrix = start()
    skew = torch.randn(L, L)
    skew = skew - skew.T
    target = torch.linalg.matrix_exp(0.5 * skew / torch.linalg.matrix_norm(skew, 2)) @ matrix
    descent = CayleyDescent(matrix, angle=0.02)
    losses = []
    for _ in range(600):
        z = torch.randn(64, L)
        y = (z @ matrix.T).requires_grad_()
        loss = (y - z @ target.T).square().mean()
        loss.backward()
        descent.step(y.detach(), y.grad)
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20


def test_a_loss_that_does_not_depend_on_the_projection_changes_nothing():
    matrix = start()
    before = matrix.clone()
    CayleyDescent(matrix, angle=0.05).step(torch.randn(B, L), torch.zeros(B, L))
    assert torch.allclose(matrix, before, atol=1e-6)
    CayleyDescent(matrix, angle=0.05).step(torch.randn(B, L), None)
    assert torch.equal(matrix, matrix)
