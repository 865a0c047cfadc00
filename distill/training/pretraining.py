"""Stage two without labels: a student learns the relations between the pictures of its texts, and nothing else.

The relational manifold loss needs neither an aligner nor a label, and no label is an argument here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distill.dataset.order import batches
from distill.dataset.sampled_features import SampledFeatures, features_of_epoch
from distill.dataset.tokens import Tokens
from distill.objective.losses import manifold_loss
from distill.settings import TrainSettings
from distill.students.heads import StudentHeads
from distill.students.pooling import pooled_and_logits, pooled_width
from teacher_cache import progress


def pretrain_student(
    model: Any,
    tokens: Tokens,
    features: np.ndarray | SampledFeatures,
    settings: TrainSettings,
    *,
    key: str,
    device: torch.device,
) -> list[float]:
    """Train `model` in place on (N, L) features of its N texts, in memory; the mean loss of each epoch. `key`
    decides the order of the rows together with the seed. The task head isn't touched."""
    from transformers import get_scheduler

    torch.manual_seed(settings.seed)
    model.to(device).train()
    heads = StudentHeads(pooled_width(model), features.shape[1], 1).to(device)
    heads.start(torch.Generator().manual_seed(settings.seed))
    trained = [*model.base_model.parameters(), heads.projection.weight]
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
    total = settings.epochs * -(-len(tokens) // settings.batch_size)
    schedule = get_scheduler("linear", optimizer, int(settings.warmup * total), total)
    center = torch.from_numpy(features_of_epoch(features, 0)[0]).float().mean(0).to(device)  # of all pictures
    means = []
    with progress(total, "pre-training", "step") as bar:
        for epoch in range(settings.epochs):
            losses = []
            table, places = features_of_epoch(features, epoch)
            lengths = tokens.lengths if settings.by_length else None
            place: dict[str, Any] = {"key": key, "seed": settings.seed, "epoch": epoch, "lengths": lengths}
            for rows in batches(len(tokens), settings.batch_size, **place):
                z = torch.from_numpy(table[places[rows]]).to(device).float()  # (B, L)
                s = pooled_and_logits(model, tokens.batch(rows, device))[0]  # (B, H)
                loss = manifold_loss("relational", z, heads.projection(s), center)
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(trained, settings.clip_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.detach())
                bar.update()
            means.append(float(torch.stack(losses).mean()))
    return means
