"""The losses: what they depend on and what they are invariant under."""

import pytest
import torch

from distill.objective.losses import (
    MANIFOLD_LOSSES,
    Outputs,
    head_loss,
    kl_loss,
    manifold_loss,
    output_alignment_loss,
    output_distance,
    scores,
    student_loss,
    task_loss,
)
from distill.objective.multi_label import label_set_alignment

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


def test_the_distances_of_two_points_by_hand():
    a, s = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    expected = {"cosine": 1.0, "euclid": 4.0, "pointwise": (1 + 1 + 9 + 9) / 4, "relational": 0.0, "none": 0.0}
    assert {kind: manifold_loss(kind, a, s).item() for kind in MANIFOLD_LOSSES} == pytest.approx(expected)
    assert manifold_loss("cosine", a, a + torch.tensor([0.0, 2.0])).item() == pytest.approx(1 - 0.5**0.5)


def test_relational_subtracts_the_mean_of_the_batch_where_no_center_is_given(points):
    a, s = points
    found = manifold_loss("relational", a, s).item()
    assert found == pytest.approx(manifold_loss("relational", a, s, a.mean(0)).item())
    assert found != pytest.approx(manifold_loss("relational", a, s, torch.zeros(L)).item(), rel=1e-3)
    assert found == pytest.approx(manifold_loss("relational", a + 5, s - 7).item(), rel=1e-4)


def test_two_rows_have_relations_and_one_has_none(points):
    a, s = points
    assert manifold_loss("relational", a[:1], s[:1]).item() == 0
    assert manifold_loss("relational", a[:2], s[:2], torch.zeros(L)).item() > 0


def test_the_loss_of_classes_numbers_and_label_sets():
    logits, weights = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), torch.tensor([1.0, 5.0, 1.0])
    labels = torch.tensor([0, 1])
    by_row = -logits.log_softmax(1)[torch.arange(2), labels]
    assert head_loss(logits, labels).item() == pytest.approx(by_row.mean().item())
    assert head_loss(logits, labels, 0.0, weights).item() == pytest.approx((by_row * weights[labels]).mean().item())
    smooth = 0.7 * by_row - 0.3 * logits.log_softmax(1).mean(1)
    assert head_loss(logits, labels, 0.3).item() == pytest.approx(smooth.mean().item())
    spread = 0.7 * by_row * weights[labels] - 0.3 * (logits.log_softmax(1) * weights).sum(1) / 3
    assert head_loss(logits, labels, 0.3, weights).item() == pytest.approx(spread.mean().item())
    numbers = torch.tensor([[1.0], [3.0]])
    assert head_loss(numbers, torch.tensor([2, 7])).item() == pytest.approx((1 + 16) / 2)
    assert head_loss(numbers, torch.tensor([2.0, 7.0], dtype=torch.float64)).dtype == torch.float32
    assert head_loss(numbers, torch.tensor([2, 7]), 0.5).item() == pytest.approx((1 + 16) / 2)
    sets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, sets)
    assert head_loss(logits, sets, 0.5, weights).item() == pytest.approx(expected.item())


def outputs(seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return Outputs(*(torch.randn(B, width, generator=generator) for width in (classes, classes, L)))


def test_the_aligners_loss_weighs_the_auxiliary_head_by_gamma():
    found, labels = outputs(1), torch.tensor([0, 1, 2, 0, 1, 2])
    head, auxiliary = head_loss(found.logits, labels), head_loss(found.aux_logits, labels)
    assert task_loss(found, labels, 0.3).item() == pytest.approx((head + 0.3 * auxiliary).item())


def test_output_alignment_is_the_squared_distance_of_softened_outputs():
    a, s, temperature = outputs(1), outputs(2), 3.0

    def distance(one, other):
        return 9 * ((one / 3).softmax(1) - (other / 3).softmax(1)).square().mean()

    expected = distance(a.logits, s.logits) + 0.25 * distance(a.aux_logits, s.aux_logits)
    assert output_alignment_loss(a, s, 0.25, temperature).item() == pytest.approx(expected.item(), rel=1e-5)
    assert output_distance(a.logits, s.logits, temperature).item() == pytest.approx(distance(a[0], s[0]).item())
    one, other = outputs(1, 1), outputs(2, 1)
    plain = (one.logits - other.logits).square().mean()
    assert output_distance(one.logits, other.logits, temperature).item() == pytest.approx(plain.item())
    sets = label_set_alignment(a.logits, s.logits, 3.0) + 0.25 * label_set_alignment(a.aux_logits, s.aux_logits, 3.0)
    assert output_alignment_loss(a, s, 0.25, 3.0, multi_label=True).item() == pytest.approx(sets.item())


def test_the_divergence_of_softened_outputs_is_that_of_the_student_from_the_aligner():
    a, s = outputs(1).logits, outputs(2).logits
    p, q = (a / 3).softmax(1), (s / 3).softmax(1)
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    assert kl_loss(a, s, 3.0).item() == pytest.approx(expected.item(), rel=1e-4)
    assert kl_loss(s, a, 3.0).item() != pytest.approx(expected.item(), rel=1e-3)
    one, other = outputs(1, 1).logits, outputs(2, 1).logits
    assert kl_loss(one, other, 2.0).item() == pytest.approx((one - other).square().mean().item())


def test_only_the_scores_of_a_regression_are_cut_at_zero_and_only_if_asked_for():
    one, two = outputs(1, 1), outputs(1, 2)
    for found, relu, is_cut in ((one, True, True), (one, False, False), (two, True, False), (two, False, False)):
        cut = scores(found.logits, found.aux_logits, relu)
        expected = [part.clamp(min=0) if is_cut else part for part in (found.logits, found.aux_logits)]
        assert all(torch.equal(*pair) for pair in zip(cut, expected, strict=True))


def test_the_students_loss_is_the_weighted_sum_of_its_terms_and_teaches_the_student_alone():
    a, s, labels = (
        outputs(1),
        Outputs(*(part.requires_grad_() for part in outputs(2))),
        torch.tensor([0, 1, 2, 0, 1, 2]),
    )
    a = Outputs(*(part.requires_grad_() for part in a))
    weights, center = torch.tensor([1.0, 2.0, 3.0]), torch.ones(L)
    words = {"manifold": "relational", "alpha": 0.2, "beta": 0.7, "gamma": 0.4, "temperature": 2.0, "center": center}
    found = student_loss(a, s, labels, label_smoothing=0.1, class_weights=weights, **words)
    task = head_loss(s.logits, labels, 0.1, weights) + 0.4 * head_loss(s.aux_logits, labels, 0.1, weights)
    alignment = output_alignment_loss(a, s, 0.4, 2.0)
    distance = manifold_loss("relational", a.projection, s.projection, center)
    assert torch.stack(found[1:]).tolist() == pytest.approx([task.item(), alignment.item(), distance.item()])
    assert found.total.item() == pytest.approx((0.2 * alignment + 0.8 * task + 0.7 * distance).item())
    found.total.backward()
    assert all(part.grad is None for part in a)
    assert all(part.grad is not None for part in s)
    given = student_loss(a, s, labels, head=torch.tensor(5.0), **words)
    assert given.task.item() == pytest.approx(5 + 0.4 * head_loss(s.aux_logits, labels).item())
    sets = torch.nn.functional.one_hot(labels, 3).float()
    assert student_loss(a, s, sets, **words).output_alignment.item() == pytest.approx(
        output_alignment_loss(a, s, 0.4, 2.0, multi_label=True).item()
    )
