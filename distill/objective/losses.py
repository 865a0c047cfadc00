"""The losses of ARMADA (arXiv 2603.10877) as pure functions of the outputs of the aligner and of the student.

Shapes: B rows, C classes (C = 1 for a regression), L the width of the shared manifold. Every loss is a float32 scalar.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from distill.objective.multi_label import label_set_alignment, label_set_loss
from distill.settings import MANIFOLD_LOSSES

COMPARING = ("cosine", "euclid", "relational")  # manifold losses that compare the rows of a batch, or their means


class Outputs(NamedTuple):
    """The outputs of the aligner, or of the student, for one batch."""

    logits: Tensor  # (B, C), from the task head
    aux_logits: Tensor  # (B, C), from the auxiliary head on the projection
    projection: Tensor  # (B, L), points in the shared manifold


def scores(logits: Tensor, aux_logits: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """Apply the ReLU of the reference to the logits of a regression if `relu` is set.

    Such scores are never below zero, and a row whose score is zero has no gradient. Return the logits (B, C) of a
    classification unchanged.
    """
    return (logits.relu(), aux_logits.relu()) if relu and logits.shape[1] == 1 else (logits, aux_logits)


class StudentLoss(NamedTuple):
    """The total loss of the student and its unweighted terms."""

    total: Tensor
    task: Tensor
    output_alignment: Tensor
    manifold: Tensor


def head_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of (B, C) logits against (B,) class ids; if C = 1, the MSE against floats; for (B, C)
    labels, 0 or 1, the binary cross-entropy.

    With `class_weights` (C,), the loss of a row is multiplied by the weight of its class. The mean is over the rows and
    not over their weights, so that a batch may be computed in parts. Only class ids are smoothed or weighted.
    """
    if labels.ndim == 2:
        return label_set_loss(logits, labels)
    if logits.shape[1] == 1:
        return F.mse_loss(logits.squeeze(1), labels.to(logits.dtype))
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    rows = F.cross_entropy(logits, labels, class_weights, reduction="none", label_smoothing=label_smoothing)
    return rows.mean()


def task_loss(outputs: Outputs, labels: Tensor, gamma: float) -> Tensor:
    """Return task(head) + gamma * task(aux head), the whole loss of the aligner. `labels` are as of `head_loss`."""
    return head_loss(outputs.logits, labels) + gamma * head_loss(outputs.aux_logits, labels)


def output_alignment_loss(
    aligner: Outputs, student: Outputs, gamma: float, temperature: float, *, multi_label: bool = False
) -> Tensor:
    """Return T^2 * [MSE(softmax(a/T), softmax(s/T)) + gamma * the same on the auxiliary heads].

    a and s are the logits of aligner and student, T is `temperature`. If C = 1, the MSE is taken without T and softmax.
    With `multi_label`, the distance is `label_set_alignment`, because such logits are no distribution over classes.
    """
    distance = label_set_alignment if multi_label else output_distance
    on_logits = distance(aligner.logits, student.logits, temperature)
    return on_logits + gamma * distance(aligner.aux_logits, student.aux_logits, temperature)


def output_distance(aligner: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 * MSE(softmax(a/T), softmax(s/T)) of logits (B, C); if C = 1, the MSE without T and softmax."""
    if student.shape[1] == 1:
        return F.mse_loss(student, aligner)
    return temperature**2 * F.mse_loss((student / temperature).softmax(1), (aligner / temperature).softmax(1))


def kl_loss(aligner: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 * KL(softmax(a/T), softmax(s/T)), the mean over rows of logits (B, C); if C = 1, the MSE without T.

    a and s are the logits of aligner and student, T is `temperature` (Hinton et al. 2015, arXiv 1503.02531).
    """
    if student.shape[1] == 1:
        return F.mse_loss(student, aligner)
    target, found = (aligner / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(found, target, reduction="batchmean", log_target=True)


def manifold_loss(kind: str, aligner: Tensor, student: Tensor, center: Tensor | None = None) -> Tensor:
    """Return the distance between two batches of points in the shared manifold, (B, L) each.

    Args:
        kind: one of MANIFOLD_LOSSES.
            `cosine` and `euclid` compare only the batch means, so they carry no information about single rows.
            `pointwise` compares row by row.
            `relational` compares the two matrices of cosines between the rows of the batch, without the diagonal. It is
            invariant under rotations, so it needs no trained aligner.
            `none` is 0.
        aligner: the projections of the aligner.
        student: the projections of the student.
        center: (L,), the projection of the mean of the training features, which `relational` subtracts from the rows of
            the aligner (None: their batch mean). It always subtracts the batch mean from the rows of the student.

    Raise ValueError if `kind` is unknown.
    """
    if kind == "none":
        return student.new_zeros(())
    if kind == "cosine":
        return 1 - F.cosine_similarity(aligner.mean(0), student.mean(0), dim=0)
    if kind == "euclid":
        return F.mse_loss(student.mean(0), aligner.mean(0))
    if kind == "pointwise":
        return F.mse_loss(student, aligner)
    if kind == "relational":
        return _relational(aligner, student, center)
    raise ValueError(f"manifold loss: expected one of {', '.join(MANIFOLD_LOSSES)}, found {kind!r}")


def _relational(aligner: Tensor, student: Tensor, center: Tensor | None) -> Tensor:
    rows = len(student)
    if rows < 2:
        return student.sum() * 0.0  # a single row has no relations
    a = F.normalize(aligner - (aligner.mean(0) if center is None else center), dim=1)
    s = F.normalize(student - student.mean(0), dim=1)
    difference = (a @ a.T - s @ s.T).square()  # (B, B); the diagonal is zero up to rounding
    return (difference.sum() - difference.diagonal().sum()) / (rows * (rows - 1))


def student_loss(
    aligner: Outputs,
    student: Outputs,
    labels: Tensor,
    *,
    manifold: str,
    alpha: float,
    beta: float,
    gamma: float,
    temperature: float,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    center: Tensor | None = None,
    head: Tensor | None = None,
) -> StudentLoss:
    """Return alpha * output alignment + (1 - alpha) * task + beta * manifold. Only the student gets gradients.

    Args:
        aligner: the outputs of the aligner.
        student: the outputs of the student.
        labels: (B,) class ids, or floats if C = 1, or (B, C) 0 or 1 for a multi-label task.
        manifold: one of MANIFOLD_LOSSES.
        alpha: the weight of output alignment against the task.
        beta: the weight of the manifold loss.
        gamma: the weight of the auxiliary heads.
        temperature: T of the output alignment.
        label_smoothing: the part of each label that is spread over all classes.
        class_weights: (C,), see `head_loss`.
        center: see `manifold_loss`.
        head: the loss of the task head if it is not computed from the labels, as for a language model on its answers.
    """
    aligner = Outputs(*(output.detach() for output in aligner))
    if head is None:
        head = head_loss(student.logits, labels, label_smoothing, class_weights)
    task = head + gamma * head_loss(student.aux_logits, labels, label_smoothing, class_weights)
    alignment = output_alignment_loss(aligner, student, gamma, temperature, multi_label=labels.ndim == 2)
    distance = manifold_loss(manifold, aligner.projection, student.projection, center)
    return StudentLoss(alpha * alignment + (1 - alpha) * task + beta * distance, task, alignment, distance)
