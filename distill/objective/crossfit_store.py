"""What cross-fitted aligners say of a view, and its whitening, by content key: made once, read by every student.

The key of the logits is made of everything that decides them: the digest of the view, the targets, the folds, what the
aligners read (components and power), the aligner's settings and the seed. That of the whitening is made of the digest
of the view, the components and the power.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.dataset.join import View
from distill.dataset.moving import on_device
from distill.dataset.sampled_features import FeatureTable, SampledFeatures
from distill.objective.aligner_store import keep, read_kept
from distill.objective.cross_fitting import FoldAligners, as_float, out_of_fold_logits
from distill.objective.crossfit import CrossfitTargets
from distill.objective.folds import folds_of
from distill.objective.whitening import Whitening, fit_whitening
from distill.settings import AlignerSettings, TrainSettings, changes
from teacher_cache import canonical_json, sha256

UNUSED = ("gamma", "rotation", "angle", "regression")  # settings of the aligner that has a manifold


def whitening_of(folder: Path, view: View, table: FeatureTable, components: int, power: float) -> Whitening:
    """Return the whitening of a view's features; fit and store it if it is not stored. `table` is a copy of them."""
    home = folder / sha256(canonical_json(["armada-whitening/1", view.digest, components, power]))[:32]
    kept = read_kept(home, "whitening")
    if kept is None:
        found = fit_whitening(table, components, power)
        kept = {"mean": found.mean, "basis": found.basis}
        keep(home, "whitening", kept)
    return Whitening(kept["mean"], kept["basis"])


def crossfit_targets(
    folder: Path,
    view: View,
    labels: Sequence[Any],
    classes: int,
    epochs: int,
    settings: TrainSettings,
    aligner: AlignerSettings,
    device: torch.device,
    max_local_bytes: int | None = None,
    moved: Tensor | SampledFeatures | None = None,
) -> CrossfitTargets:
    """Return what a student is taught; train the aligners, or read what an earlier run has stored.

    The aligners train for `epochs` epochs, and the student is taught by those after the epoch of the smallest loss out
    of fold: later ones know their own rows better and all others worse.

    Args:
        folder: where aligners are stored.
        view: the training rows and their features (N, L).
        labels: what the aligners predict (N,): class ids, or floats if `classes` is 1, or C of 0 or 1 per row.
        classes: C, the outputs of the aligners.
        epochs: the epochs of the aligners; 0 for aligners that are never trained.
        settings: those of the student, which say folds, components and power.
        aligner: everything else that decides the training of the aligners.
        device: where the aligners are trained.
        max_local_bytes: largest size of the features in memory; larger ones are read in windows.
        moved: the view's features, if `device` has a copy of them already.
    """
    moved = on_device(view.features, device) if moved is None else moved
    table = view.features if moved is None else moved
    whitening = None
    if settings.components:
        whitening = whitening_of(folder, view, table, settings.components, settings.power)
    folds = folds_of(view.split, settings.folds)
    used = {name: value for name, value in changes(aligner).items() if name not in UNUSED}
    reads = [settings.components, settings.power] if settings.components else [0]
    digests = [sha256(canonical_json(list(labels))), sha256(folds.tobytes())]
    facts: list[Any] = ["armada-crossfit/1", view.digest, used, settings.seed, classes, settings.folds, *digests, reads]
    home = folder / sha256(canonical_json(facts))[:32]
    names = [f"epoch-{epoch:04d}" for epoch in range(epochs)] or ["untrained"]
    stored = [read_kept(home, name) for name in names]
    found = [state for state in stored if state is not None]
    width = view.features.shape[1] if whitening is None else whitening.basis.shape[1]
    if len(found) < len(names):
        inputs = whitening.to(device) if whitening else as_float
        trained = out_of_fold_logits(
            table,
            inputs,
            width,
            torch.tensor(labels, device=device),
            folds,
            classes,
            epochs,
            aligner,
            settings.seed,
            view.digest,
            max_local_bytes,
        )
        found = [{"logits": logits, "losses": losses} for logits, losses in trained]
        for name, state in zip(names, found, strict=True):
            keep(home, name, state)
    means = [float(state["losses"].mean()) for state in found]
    best = int(np.argmin(means))
    with torch.device("meta"):
        counted = FoldAligners(int(folds.max()) + 1, width, classes, aligner.width, aligner.dropout)
    return CrossfitTargets(
        table,
        found[best]["logits"],
        whitening,
        view.pictures,
        view.digest,
        settings.seed,
        max_local_bytes,
        sum(parameter.numel() for parameter in counted.parameters()),
        {"folds": int(folds.max()) + 1, "epoch": best if epochs else None, "loss": means[best]},
    )
