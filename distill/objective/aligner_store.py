"""Trained aligners by content key: the state after each epoch is stored once and read by every rerun.

The key is made of everything that decides the states: the digest of the view (rows, labels, pictures, features after
the control), the aligner's settings, the seed and the number of classes. The student's settings are not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from distill.dataset.join import View
from distill.dataset.moving import on_device
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
    """Return the aligner's states after each of the first `epochs` epochs; train and store them if they are not stored.

    Args:
        folder: Where aligners are stored.
        view: The training rows and their features (N, L).
        classes: Number of the aligner's outputs C; 1 for a regression.
        epochs: Number of states.
        settings: Everything else that decides the training.
        seed: Seed of the aligner's initial weights, batches and dropout.
        device: Where the aligner is trained.
        targets: What the aligner predicts instead of the view's labels (N,): the first tokens of answers.
        max_local_bytes: Largest size of the features in memory; larger ones are read in windows.
        moved: The view's features, if `device` has a copy of them already.
    """
    labels = view.split.labels if targets is None else targets
    other_targets = [] if targets is None else [sha256(canonical_json(list(targets)))]
    key = sha256(canonical_json(["armada-aligner/2", view.digest, changes(settings), seed, classes, *other_targets]))
    home = folder / key[:32]
    stored = [read_kept(home, _name(epoch)) for epoch in range(epochs)]
    found = [state for state in stored if state is not None]
    if len(found) == epochs:
        return found
    moved = on_device(view.features, device) if moved is None else moved
    table = view.features if moved is None else moved
    label_tensor = torch.tensor(labels, device=device)
    states = train_aligner(table, label_tensor, classes, epochs, settings, seed, view.digest, max_local_bytes)
    for epoch, state in enumerate(states):
        keep(home, _name(epoch), state)
    return states


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def keep(home: Path, name: str, state: State) -> None:
    """Write tensors to a file whose name states their digest."""
    data = save({part: value.contiguous() for part, value in state.items()})
    atomic_write(home / f"{name}-{sha256(data)[:32]}.safetensors", data, durable=False)


def read_kept(home: Path, name: str) -> State | None:
    """Return the tensors that were kept by this name, or None if no file has the digest that its name states."""
    for file in sorted(home.glob(f"{name}-*.safetensors")):
        data = file.read_bytes()
        if sha256(data)[:32] == file.stem.rpartition("-")[2]:
            state: State = load(data)
            return state
    return None
