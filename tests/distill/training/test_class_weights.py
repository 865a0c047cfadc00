"""Class weights: those of scikit-learn where they are balanced, and of a mean of 1 over the training rows."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from distill.objective.losses import Outputs, head_loss, student_loss
from distill.training.class_weights import class_weights_of
from teacher_cache import ArmadaError

CPU = torch.device("cpu")
LABELS = [0, 0, 0, 0, 1, 1, 2]


def test_balanced_weights_are_those_of_scikit_learn():
    found = class_weights_of(("balanced",), LABELS, 3, CPU)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert found.tolist() == pytest.approx(expected.tolist())
    assert class_weights_of(("balanced",), LABELS, 4, CPU).tolist() == pytest.approx([*expected.tolist(), 1.0])


def test_given_weights_keep_their_ratios_and_the_scale_of_the_loss():
    found = class_weights_of(("2", "4", "8"), LABELS, 3, CPU)
    assert (found / found[0]).tolist() == [1.0, 2.0, 4.0]
    assert found[LABELS].mean() == pytest.approx(1.0)
    assert class_weights_of(None, LABELS, 3, CPU) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [(("1", "2"), "expected 3 numbers, one for each class, found 2"), (("0", "0", "0"), "expected a weight above 0")],
)
def test_weights_that_fit_no_class_or_no_row_are_refused(words, message):
    with pytest.raises(ArmadaError, match=f"--class-weights: {message}"):
        class_weights_of(words, LABELS, 3, CPU)


def test_a_weighted_and_smoothed_loss_is_torchs_row_by_row_and_may_be_computed_in_parts():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 3), torch.tensor(LABELS)
    weights = class_weights_of(("1", "2", "3"), LABELS, 3, CPU)
    found = head_loss(logits, labels, 0.1, weights)
    rows = torch.nn.CrossEntropyLoss(weights, reduction="none", label_smoothing=0.1)(logits, labels)
    assert found == pytest.approx(float(rows.mean()))
    parts = [len(part) / 7 * head_loss(logits[part], labels[part], 0.1, weights) for part in ([0, 1, 2], [3, 4, 5, 6])]
    assert float(sum(parts)) == pytest.approx(float(found))


def test_both_heads_of_the_student_learn_by_the_weights_and_the_smoothing():
    torch.manual_seed(0)
    labels = torch.tensor(LABELS)
    teacher, student = (Outputs(torch.randn(7, 3), torch.randn(7, 3), torch.randn(7, 4)) for _ in range(2))
    weights = class_weights_of(("1", "2", "3"), LABELS, 3, CPU)
    how = {"manifold": "none", "alpha": 0.5, "beta": 0.0, "gamma": 0.5, "temperature": 2.0}
    found = student_loss(teacher, student, labels, **how, label_smoothing=0.2, class_weights=weights)
    expected = head_loss(student.logits, labels, 0.2, weights) + 0.5 * head_loss(
        student.aux_logits, labels, 0.2, weights
    )
    assert torch.equal(found.task, expected)
    assert torch.equal(found.output_alignment, student_loss(teacher, student, labels, **how).output_alignment)
