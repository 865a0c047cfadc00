"""The losses of ARMADA (arXiv 2603.10877) as pure functions of two sides' outputs.

B rows, C labels (C = 1: regression), L the width of the shared manifold. Every loss is a float32 scalar.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from distill.settings import MANIFOLD_LOSSES


class Outputs(NamedTuple):
    """What either side, aligner or student, says of a batch."""

    logits: Tensor  # (B, C), of the task head
    aux_logits: Tensor  # (B, C), of the head on the projection
    projection: Tensor  # (B, L), in the shared manifold


def positive_if_regression(logits: Tensor, aux_logits: Tensor) -> tuple[Tensor, Tensor]:
    """ReLU on outputs of one number, since the reference's scores are none below zero; else the logits as they are."""
    return (logits.relu(), aux_logits.relu()) if logits.shape[1] == 1 else (logits, aux_logits)


class StudentLoss(NamedTuple):
    """The student's loss and its terms, unweighted."""

    total: Tensor
    task: Tensor
    output_alignment: Tensor
    manifold: Tensor


def head_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (B, C) logits against class ids; for C = 1 the mean squared error against floats."""
    if logits.shape[1] == 1:
        return F.mse_loss(logits.squeeze(1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def task_loss(outputs: Outputs, labels: Tensor, gamma: float) -> Tensor:
    """task(head) + gamma * task(aux head): the aligner's whole loss, and the student's task term."""
    return head_loss(outputs.logits, labels) + gamma * head_loss(outputs.aux_logits, labels)


def output_alignment_loss(aligner: Outputs, student: Outputs, gamma: float, temperature: float) -> Tensor:
    """T^2 * [MSE(softmax(a/T), softmax(s/T)) + gamma * the same on the aux heads]; for C = 1 plain MSE, without T."""

    def distance(a: Tensor, s: Tensor) -> Tensor:
        if a.shape[1] == 1:
            return F.mse_loss(s, a)
        return temperature**2 * F.mse_loss((s / temperature).softmax(1), (a / temperature).softmax(1))

    return distance(aligner.logits, student.logits) + gamma * distance(aligner.aux_logits, student.aux_logits)


def manifold_loss(kind: str, aligner: Tensor, student: Tensor, center: Tensor | None = None) -> Tensor:
    """The distance of two batches of points in the shared manifold, (B, L) each.

    `cosine` and `euclid` compare the batch means only: they say nothing of a single row. `pointwise` compares row by
    row. `relational` compares the two matrices of cosines between the batch's rows, off the diagonal; the aligner's
    rows are centred by `center`, the (L,) projection of the training set's mean (the batch's own mean where it is
    None), the student's by the batch's; it is blind to rotations, so it needs no trained aligner.
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
        return student.sum() * 0.0  # one point has no relations
    a = F.normalize(aligner - (aligner.mean(0) if center is None else center), dim=1)
    s = F.normalize(student - student.mean(0), dim=1)
    difference = (a @ a.T - s @ s.T).square()  # (B, B); its diagonal is zero but for rounding
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
    center: Tensor | None = None,
    head: Tensor | None = None,
) -> StudentLoss:
    """alpha * output alignment + (1 - alpha) * task + beta * manifold. Gradients reach the student's side only.

    `head` is the task head's loss where the labels don't give it: a language model's on its answers.
    """
    aligner = Outputs(*(output.detach() for output in aligner))
    if head is None:
        head = head_loss(student.logits, labels)
    task = head + gamma * head_loss(student.aux_logits, labels)
    alignment = output_alignment_loss(aligner, student, gamma, temperature)
    distance = manifold_loss(manifold, aligner.projection, student.projection, center)
    return StudentLoss(alpha * alignment + (1 - alpha) * task + beta * distance, task, alignment, distance)
