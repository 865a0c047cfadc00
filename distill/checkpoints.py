"""The checkpoints of a run: one file a step, each written whole or not at all, the last few kept.

A checkpoint knows what run it is of. Another run is refused in words that name what differs; none is taken up by
accident and none is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from teacher_cache import ArmadaError

Identity = Mapping[str, Any]


class Checkpoints:
    """The files `step-00000012.pt` of one folder, read without unpickling code."""

    def __init__(self, folder: Path, identity: Identity, keep: int = 2) -> None:
        self._folder = folder
        self._identity = dict(identity)
        self._keep = keep

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state after `step`, then remove all but the last `keep` files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{step:08d}.pt"
        draft = path.with_suffix(".draft")
        with draft.open("wb") as stream:
            torch.save({"identity": self._identity, "step": step, "state": dict(state)}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
        for old in self._files()[: -self._keep]:
            old.unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """The newest readable step and its state on the CPU, None where there is none.

        Raises ArmadaError where it is of another run.
        """
        for path in reversed(self._files()):
            if not _is_whole(path):
                continue  # damaged on the disk: the one before it still counts
            found = torch.load(path, map_location="cpu", weights_only=True)
            refuse_another(found["identity"], self._identity, str(path))
            return int(found["step"]), dict(found["state"])
        return None

    def remove(self) -> None:
        """Remove all of them, once the run's results stand."""
        for path in self._files():
            path.unlink(missing_ok=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def _is_whole(path: Path) -> bool:
    """Whether every part of the file has the checksum that it was written with."""
    try:
        with ZipFile(path) as file:
            return file.testzip() is None
    except BadZipFile:
        return False


def refuse_another(found: Identity, asked: Identity, where: str) -> None:
    """Raise ArmadaError, with every difference, unless a run's recorded identity is the one that is asked for."""
    before, now = _flat(found), _flat(asked)
    changes = [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changes:
        raise ArmadaError(
            f"{where}: another run is here: {'; '.join(changes)}; choose another --out or remove the folder"
        )


def _flat(identity: Identity, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def trained_weights(model: Any) -> dict[str, Tensor]:
    """The weights that training changes, on the CPU, by name."""
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return {name: value.cpu().contiguous() for name, value in weights.items()}
