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
from safetensors import safe_open
from safetensors.torch import save_file

from distill.settings import AlignerSettings, TrainSettings, with_baseline
from distill.students.loading import trained_weights
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


def refuse_another(found: Identity, requested: Identity, where: str) -> None:
    """Raise ArmadaError, naming every difference, unless the recorded identity `found` is the requested one.

    Settings that a record does not mention have their baseline value, so records written before a setting existed
    stay valid.
    """
    before, now = (_flat(_in_full(identity)) for identity in (found, requested))
    changed = [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ArmadaError(
            f"{where}: another run is here: {'; '.join(changed)}; choose another --out or remove the folder"
        )


def _in_full(identity: Identity) -> Identity:
    kinds = {"settings": TrainSettings, "aligner": AlignerSettings}
    full = {name: with_baseline(kind, identity[name]) for name, kind in kinds.items() if identity.get(name) is not None}
    return {**identity, **full}


def _flat(identity: Identity, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


# --- merged: distill.training.checkpoints
# Which epoch's weights are exported: the last one's, or those of the best epoch on a split. They are kept on the disk
class BestEpoch:
    """The file `best-KEY.safetensors`: trained weights with their epoch and score. The earliest of equals is kept."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / f"best-{key[:16]}.safetensors"

    def offer(self, model: Any, epoch: int, score: float) -> None:
        """Keep the weights as they are now unless an earlier epoch was as good."""
        kept = self.kept()
        if kept is None or score > kept[1]:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".draft")
            save_file(trained_weights(model), draft, metadata={"epoch": str(epoch), "score": repr(score)})
            os.replace(draft, self._path)

    def kept(self) -> tuple[int, float] | None:
        """The best epoch so far and its score."""
        if not self._path.exists():
            return None
        with safe_open(self._path, "pt") as file:
            facts = file.metadata()
        return int(facts["epoch"]), float(facts["score"])

    @torch.no_grad()
    def load(self, model: Any) -> None:
        """Give a model the best epoch's weights."""
        parameters = dict(model.named_parameters())
        with safe_open(self._path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                parameters[name].copy_(file.get_tensor(name))

    def remove(self) -> None:
        """Remove the file, once the run's results stand."""
        self._path.unlink(missing_ok=True)
