"""The losses: what they depend on and what they are invariant under."""

import pytest
import torch

from distill.objective.losses import MANIFOLD_LOSSES, manifold_loss

B, L = 6, 10


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(B, L, generator=generator), torch.randn(B, L, generator=generator)


def rotation():
    return torch.nn.init.orthogonal_(torch.empty(L, L), generator=torch.Generator().manual_seed(1))


def test_relational_is_the_mean_squared_difference_of_cosines_off_the_diagonal(points):
    a, s = points
    center = torch.linspace(-1, 1, L)
    total = 0.0
    for i in range(B):
        for j in range(B):
            if i != j:
                one = torch.cosine_similarity(a[i] - center, a[j] - center, dim=0)
                two = torch.cosine_similarity(s[i] - s.mean(0), s[j] - s.mean(0), dim=0)
                total += (one - two) ** 2
    expected = total / (B * (B - 1))
    assert manifold_loss("relational", a, s, center).item() == pytest.approx(expected.item(), rel=1e-5)


def test_only_relational_is_invariant_under_a_rotation_of_either_side(points):
    a, s = points
    turned = a @ rotation().T
    assert manifold_loss("relational", turned, s).item() == pytest.approx(manifold_loss("relational", a, s).item())
    for kind in ("cosine", "euclid", "pointwise"):
        assert manifold_loss(kind, turned, s).item() != pytest.approx(manifold_loss(kind, a, s).item(), rel=1e-3)


def test_cosine_and_euclid_depend_only_on_the_batch_means(points):
    a, s = points
    for kind in ("cosine", "euclid"):
        assert manifold_loss(kind, a.flip(0), s).item() == pytest.approx(manifold_loss(kind, a, s).item(), rel=1e-5)
    for kind in ("pointwise", "relational"):
        assert manifold_loss(kind, a.flip(0), s).item() != pytest.approx(manifold_loss(kind, a, s).item(), rel=1e-3)


@pytest.mark.parametrize("kind", MANIFOLD_LOSSES)
def test_equal_points_have_no_distance(points, kind):
    a, _ = points
    assert manifold_loss(kind, a, a.clone()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", MANIFOLD_LOSSES)
def test_a_last_batch_of_one_row_has_a_finite_loss_and_gradient(kind):
    a, s = torch.randn(1, L), torch.randn(1, L, requires_grad=True)
    loss = manifold_loss(kind, a, s, torch.zeros(L)) + 0 * s.sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(s.grad).all()


def test_an_unknown_manifold_loss_is_refused(points):
    with pytest.raises(ValueError, match="expected one of cosine, euclid, pointwise, relational, none"):
        manifold_loss("cosinus", *points)
