"""Pre-training without labels: a student learns the relations between the pictures of its texts.

It minimises the relational manifold loss, which needs neither an aligner nor labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill.dataset.order import batches
from distill.dataset.sampled_features import SampledFeatures, features_of_epoch
from distill.dataset.tokens import Tokens
from distill.objective.finite import refuse_not_finite
from distill.objective.losses import manifold_loss
from distill.settings import TrainSettings
from distill.students.heads import StudentHeads
from distill.students.pooling import pooled_and_logits, pooled_width
from teacher_cache import progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def pretrain_student(
    model: PreTrainedModel,
    tokens: Tokens,
    features: np.ndarray | SampledFeatures,
    settings: TrainSettings,
    *,
    key: str,
    device: torch.device,
) -> list[float]:
    """Train `model` in place and return the mean loss of each epoch. The task head is not changed.

    Raise ArmadaError at the end of an epoch in which a loss was not finite.

    Args:
        model: the stock model.
        tokens: N texts.
        features: (N, L) features of the pictures of these texts, in memory.
        settings: the optimiser, the schedule and the number of epochs; the loss weights are not used.
        key: the digest of the data, which determines the order of the rows together with the seed.
        device: where to train.
    """
    from transformers import get_scheduler

    torch.manual_seed(settings.seed)
    model.to(device).train()
    heads = StudentHeads(pooled_width(model), features.shape[1], 1)
    heads.initialise(settings.seed)
    heads.to(device)
    trained = [*model.base_model.parameters(), heads.projection.weight]
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
    total = settings.epochs * -(-len(tokens) // settings.batch_size)
    schedule = get_scheduler("linear", optimizer, int(settings.warmup * total), total)
    table = features.features if isinstance(features, SampledFeatures) else features  # (M, L), all pictures
    table = torch.as_tensor(table)
    center = table.float().mean(0).to(device)
    means = []
    with progress(total, "pre-training", "step") as bar:
        for epoch in range(settings.epochs):
            losses = []
            _, places = features_of_epoch(features, epoch)
            lengths = tokens.lengths if settings.by_length else None
            order: dict[str, Any] = {"key": key, "seed": settings.seed, "epoch": epoch, "lengths": lengths}
            for rows in batches(len(tokens), settings.batch_size, **order):
                z = table[torch.from_numpy(places[rows])].to(device).float()  # (B, L)
                s = pooled_and_logits(model, tokens.batch(rows, device))[0]  # (B, H)
                loss = manifold_loss("relational", z, heads.projection(s), center)
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.detach())
                bar.update()
            refuse_not_finite(torch.stack(losses)[:, None], epoch * len(losses), "pre-training")
            means.append(float(torch.stack(losses).mean()))
    return means
