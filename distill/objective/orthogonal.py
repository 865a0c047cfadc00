"""Gradient descent on the orthogonal group at about the cost of a linear layer.

The orthogonal matrix O of the aligner enters the loss only as y = O z, so the gradient of a batch of B rows has rank B.
A Cayley step along it (Wen and Yin 2013, "A feasible method for optimization with orthogonality constraints", eq. 11
and lemma 4) solves one 2B x 2B system. A parametrisation would compute an L x L map and its gradient at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor


class CayleyDescent:
    """Optimise one orthogonal (L, L) matrix in place.

    A step follows the skew part of the gradient, divided by the running root mean square of its norm as in RMSprop, so
    that a gradient of average norm rotates by `angle` in total.

    Args:
        matrix: (L, L), orthogonal; changed in place.
        angle: the upper bound of the rotation of a step, in radians.
        decay: the decay of the running mean square per step.
    """

    def __init__(self, matrix: Tensor, angle: float, decay: float = 0.99) -> None:
        self.matrix = matrix
        self.angle = angle
        self.decay = decay
        self._square = torch.zeros((), dtype=matrix.dtype, device=matrix.device)
        self._steps = 0

    @torch.no_grad()
    def step(self, projection: Tensor, gradient: Tensor | None) -> None:
        """Take one step, given y = z Oᵀ and dL/dy, (B, L) each, without synchronising with the host.

        Do nothing if `gradient` is None.
        """
        if gradient is None:  # the loss did not depend on the projection
            return
        u, y = gradient.T, projection.T  # (L, B)
        left = torch.cat([u, y], 1)  # (L, 2B); the skew part A = u yᵀ - y uᵀ = left @ rightᵀ
        right = torch.cat([y, -u], 1)
        square = ((left.T @ left) * (right.T @ right)).sum()  # |A|² (Frobenius)
        self._steps += 1
        self._square.mul_(self.decay).add_(square, alpha=1 - self.decay)
        mean_square = self._square / (1 - self.decay**self._steps)
        rate = self.angle / (mean_square.sqrt() + 1e-12)
        rate = torch.minimum(rate, self.angle / (square.sqrt() + 1e-12))
        core = torch.eye(left.shape[1], dtype=left.dtype, device=left.device) + rate / 2 * (right.T @ left)
        update, _ = torch.linalg.solve_ex(core, right.T @ self.matrix)  # (2B, L)
        self.matrix.sub_(rate * (left @ update))

    @torch.no_grad()
    def restore(self) -> None:
        """Remove accumulated rounding errors by one Newton-Schulz iteration. Call it once per epoch."""
        self.matrix.copy_(1.5 * self.matrix - 0.5 * self.matrix @ (self.matrix.T @ self.matrix))


@torch.no_grad()
def orthogonality_error(matrix: Tensor) -> float:
    """Return the largest entry of |Oᵀ O - 1| for O = `matrix`, (L, L)."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return float((matrix.T @ matrix - identity).abs().max())
