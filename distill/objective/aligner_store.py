"""Trained aligners by content key: the states after each epoch, kept in the user's cache folder for every rerun.

The key holds all that decides them: the view's digest (rows, labels, pictures, features after the control), the
settings, the seed, the number of classes. A student's settings are no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from distill.dataset.join import View
from distill.dataset.loader import on_device
from distill.dataset.sampled_features import SampledFeatures
from distill.objective.aligner import State, train_aligner
from distill.settings import AlignerSettings, changes
from teacher_cache import atomic_write, canonical_json, sha256


def aligner_states(
    folder: Path,
    view: View,
    classes: int,
    epochs: int,
    settings: AlignerSettings,
    seed: int,
    device: torch.device,
    targets: Sequence[float] | None = None,
    max_local_bytes: int | None = None,
    moved: Tensor | SampledFeatures | None = None,
) -> list[State]:
    """The states of the first `epochs` epochs, read where they are kept, else trained and kept. `targets` are taught
    instead of the view's labels: first tokens of answers. `moved` are the view's features where `device` has them."""
    labels = view.split.labels if targets is None else targets
    taught = [] if targets is None else [sha256(canonical_json(list(targets)))]
    key = sha256(canonical_json(["armada-aligner/2", view.digest, changes(settings), seed, classes, *taught]))
    home = folder / key[:32]
    kept = [_read(home, epoch) for epoch in range(epochs)]
    found = [state for state in kept if state is not None]
    if len(found) == epochs:
        return found
    moved = on_device(view.features, device) if moved is None else moved
    table = view.features if moved is None else moved
    taught_labels = torch.tensor(labels, device=device)
    states = train_aligner(table, taught_labels, classes, epochs, settings, seed, view.digest, max_local_bytes)
    for epoch, state in enumerate(states):
        data = save(state)
        atomic_write(home / f"epoch-{epoch:04d}-{sha256(data)[:32]}.safetensors", data, durable=False)
    return states


def _read(home: Path, epoch: int) -> State | None:
    """The kept state of an epoch; None where there is none with the digest in its name."""
    for file in sorted(home.glob(f"epoch-{epoch:04d}-*.safetensors")):
        data = file.read_bytes()
        if sha256(data)[:32] == file.stem.rpartition("-")[2]:
            state: State = load(data)
            return state
    return None
