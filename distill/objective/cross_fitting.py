"""Cross-fitted aligners: one per fold, each trained on all other folds, so that a row's teacher has not seen its label.

The aligner that learns from all rows memorises their labels and teaches each row its own. All aligners train in one
pass over the rows, as one stack of weights. Their training is a pure function of features, labels, folds, settings and
seed, as that of the aligner is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.dataset.loader import Loader
from distill.dataset.moving import moved
from distill.dataset.sampled_features import FeatureTable, SampledFeatures
from distill.objective.finite import refuse_not_finite
from distill.objective.multi_label import label_set_losses
from distill.objective.targets import feature_blocks
from distill.settings import AlignerSettings
from teacher_cache import progress

Inputs = Callable[[Tensor], Tensor]


def as_float(features: Tensor) -> Tensor:
    """Return (B, L) features as they are, in float32."""
    return features.float()


class FoldAligners(nn.Module):
    """K aligners in one stack: each maps (B, D) inputs to logits for C classes through two hidden layers."""

    def __init__(self, folds: int, inputs: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs, width, width, classes]
        self.weights = nn.ParameterList(torch.zeros(folds, a, b) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(folds, 1, b) for b in sizes[1:])
        self.dropout = nn.Dropout(dropout)

    def initialise(self, seed: int) -> None:
        """Initialise weights from N(0, 0.02), as those of the aligner. Global random generators are not changed."""
        generator = torch.Generator().manual_seed(seed)
        for weights in self.weights:
            nn.init.normal_(weights, 0.0, 0.02, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (K, B, C) of all aligners for (B, D) inputs."""
        values = inputs.expand(len(self.weights[0]), *inputs.shape)
        last = len(self.weights) - 1
        for number, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weights)
            values = values if number == last else self.dropout(values.relu())
        return values


def out_of_fold_logits(
    features: FeatureTable,
    inputs: Inputs,
    width: int,
    labels: Tensor,
    folds: np.ndarray,
    classes: int,
    epochs: int,
    settings: AlignerSettings,
    seed: int,
    key: str,
    max_local_bytes: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Train the aligners of all folds; after each epoch, yield what each row is taught by the one that left it out.
    With 0 epochs, yield once what the untrained ones say.

    Yield the logits (M, C) on the CPU, one row per picture, and the mean loss of each row (N,) against its own label,
    in evaluation mode. Global random generators are not changed. Raise ArmadaError at the end of an epoch in which a
    loss was not finite.

    Args:
        features: (N, L); of several pictures per row (N * K' = M), each epoch draws one.
        inputs: what the aligners read of (B, L) features: (B, D).
        width: D.
        labels: (N,) class ids, or floats if `classes` is 1, or (N, C) 0 or 1 for a multi-label task; the aligners are
            trained on their device.
        folds: (N,) from `folds_of`.
        classes: C.
        epochs: how many epochs.
        settings: the optimiser and the size.
        seed: the seed of the initial weights, of dropout and of the order of rows.
        key: the digest of the data, which determines the order of rows together with the seed.
        max_local_bytes: the memory limit for features in shards, which are read in windows.
    """
    device, count = labels.device, int(folds.max()) + 1
    aligners = FoldAligners(count, width, classes, settings.width, settings.dropout)
    aligners.initialise(seed)
    aligners.to(device)
    parameters = list(aligners.parameters())
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)
    fold = torch.from_numpy(folds).to(device)
    if epochs == 0:
        logits = _left_out(aligners.eval(), features, inputs, fold, classes)
        yield logits, row_losses(logits, labels.cpu())
    loader = Loader(features, key, settings.batch_size, seed=seed, device=device, max_local_bytes=max_local_bytes)
    with progress(epochs * len(loader), "aligner", "step") as bar:
        for epoch in range(epochs):
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(seed + 1_000_003 * epoch)
                losses = []
                aligners.train()
                for batch in loader:
                    rows = moved(batch.rows, device)
                    loss = _loss(aligners(inputs(batch.features)), labels[rows], fold[rows])
                    torch.autograd.backward(loss)
                    _clip(parameters, settings.clip_norm)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    losses.append(loss.detach())
                    bar.update()
            refuse_not_finite(torch.stack(losses)[:, None], epoch * len(loader), "aligner", "--aligner-lr")
            logits = _left_out(aligners.eval(), features, inputs, fold, classes)
            yield logits, row_losses(logits, labels.cpu())


def row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each row (N,): cross-entropy, or the squared error if C = 1, or for (N, C) labels the mean
    binary cross-entropy. Those of several pictures per row, with (M, C) logits, are averaged."""
    each = len(logits) // len(labels)
    repeated = labels.repeat_interleave(each, 0)
    if labels.ndim == 2:
        found = label_set_losses(logits, repeated)
    elif logits.shape[1] == 1:
        found = (logits[:, 0] - repeated).square()
    else:
        found = F.cross_entropy(logits, repeated, reduction="none")
    return found.reshape(-1, each).mean(1)


def _loss(logits: Tensor, labels: Tensor, fold: Tensor) -> Tensor:
    """Return the sum over the K aligners of their mean loss over the rows that they learn; logits are (K, B, C)."""
    count, rows, classes = logits.shape
    if labels.ndim == 2:
        losses = label_set_losses(logits, labels)
    elif classes == 1:
        losses = (logits[:, :, 0] - labels.to(logits)).square()
    else:
        flat = F.cross_entropy(logits.reshape(-1, classes), labels.repeat(count), reduction="none")
        losses = flat.reshape(count, rows)  # (K, B)
    seen = fold != torch.arange(count, device=fold.device)[:, None] if count > 1 else torch.ones_like(losses)
    return ((losses * seen).sum(1) / seen.sum(1).clamp(min=1)).sum()


def _clip(parameters: list[nn.Parameter], at_most: float) -> None:
    """Clip the gradient of each aligner of the stack by itself."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.square().sum((1, 2)) for gradient in gradients]).sum(0).sqrt()  # (K,)
    scale = (at_most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale[:, None, None])


@torch.no_grad()
def _left_out(aligners: FoldAligners, features: FeatureTable, inputs: Inputs, fold: Tensor, classes: int) -> Tensor:
    """Return the logits (M, C) of every picture by the aligner that has left its row out."""
    table = features.features if isinstance(features, SampledFeatures) else features
    pictures, each = table.shape[0], table.shape[0] // len(fold)
    found = torch.empty(pictures, classes)
    for index, part in feature_blocks(table, 0):
        own = fold[torch.from_numpy(index // each).to(fold.device)]
        logits = aligners(inputs(part.to(fold.device)))  # (K, B, C)
        found[torch.from_numpy(index)] = logits[own, torch.arange(len(own), device=fold.device)].cpu()
    return found
