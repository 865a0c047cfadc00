"""Trained aligners by content key: the states after each epoch, kept beside the run's cache and read by every rerun.

The key holds all that decides them: the view's digest (rows, labels, pictures, features after the control), the
settings, the seed, the number of classes. A student's settings are no part of it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from distill.aligner import AlignerSettings, State, train_aligner
from distill.view import View
from teacher_cache import canonical_json, sha256


def aligner_states(
    folder: Path, view: View, classes: int, epochs: int, settings: AlignerSettings, seed: int, device: torch.device
) -> list[State]:
    """The states of the first `epochs` epochs, read where they are kept, else trained and kept."""
    key = sha256(canonical_json(["armada-aligner/1", view.digest, asdict(settings), seed, classes]))
    files = [folder / key[:32] / f"epoch-{epoch:04d}.safetensors" for epoch in range(epochs)]
    if all(file.exists() for file in files):
        return [load_file(file) for file in files]
    features = torch.from_numpy(view.features).to(device)
    labels = torch.tensor(view.split.labels, device=device)
    states = train_aligner(features, labels, classes, epochs, settings, seed, view.digest)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for file, state in zip(files, states, strict=True):
        descriptor, draft = tempfile.mkstemp(prefix=".draft-", dir=file.parent)
        os.close(descriptor)
        save_file(state, draft)
        os.replace(draft, file)
    return states
