"""The checkpoints of a run, and the weights of its best epoch.

A checkpoint is one file per step, written completely or not at all; the last few are kept. It records the identity of
its run. A run with another identity neither resumes from it nor overwrites it, and the error names all differences.

The weights of the best epoch on a split are kept on the disk, so that they survive an interruption of the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from distill.settings import AlignerSettings, TrainSettings, with_baseline
from distill.students.files.weights import trained_weights
from teacher_cache import ArmadaError, atomic_file, canonical_json, sha256, sweep_drafts

Identity = Mapping[str, Any]
_NO_ROOM = 1 << 20  # bytes that a disk may have left although a write has failed for want of room


class Checkpoints:
    """The files `step-00000012.pt` of one folder. Reading them executes no pickled code."""

    def __init__(self, folder: Path, identity: Identity, keep: int = 2) -> None:
        self._folder = folder
        self._identity = dict(identity)
        self._keep = keep

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state after `step`, then remove all but the newest `keep` files."""
        sweep_drafts(self._folder, older_than_s=0)  # a run has one writer, so these are a killed process's
        with atomic_file(self._folder / f"step-{step:08d}.pt") as draft:
            try:
                torch.save({"identity": self._identity, "step": step, "state": dict(state)}, draft)
            except RuntimeError as error:  # torch doesn't say why a file can't be written
                if shutil.disk_usage(draft.parent).free > _NO_ROOM:
                    raise
                raise ArmadaError(
                    f"{self._folder}: no room left on the disk for a checkpoint; free some space and run the same "
                    "command again"
                ) from error
        for old in self._files()[: -self._keep]:
            old.unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Return the newest readable step and its state on the CPU, or None if there is none.

        Raise ArmadaError if it belongs to another run.
        """
        for path in reversed(self._files()):
            if not _is_whole(path):
                continue  # damaged on the disk: use the one before
            found = torch.load(path, map_location="cpu", weights_only=True)
            refuse_another(found["identity"], self._identity, str(path))
            return int(found["step"]), dict(found["state"])
        return None

    def remove(self) -> None:
        """Remove all checkpoints, after the results of the run were written."""
        for path in self._files():
            path.unlink(missing_ok=True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def _is_whole(path: Path) -> bool:
    """Return True if every part of the file has the checksum with which it was written."""
    try:
        with ZipFile(path) as file:
            return file.testzip() is None
    except BadZipFile:
        return False


def identity_key(identity: Identity) -> str:
    """Return the digest that names a run of this identity, wherever its student is."""
    student = dict(identity.get("student") or {})
    if "content" in student:
        student.pop("name", None)
    return sha256(canonical_json({**identity, "student": student}))


def refuse_another(found: Identity, requested: Identity, where: str) -> None:
    """Raise ArmadaError, naming every difference, unless the recorded identity `found` is the requested one.

    Settings that a record does not mention have their baseline value, so records written before a setting existed
    stay valid. A student is compared by its content, whatever its path; by its name if the record is older and has no
    content or commit.
    """
    before, now = (_flat(_in_full(identity)) for identity in (found, requested))
    skipped = {"student.content", "student.commit"}
    if same := {name for name in skipped if name in before and name in now}:
        skipped = {"student.name"} if "student.content" in same else set()
    changed = [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in sorted((before.keys() | now.keys()) - skipped)
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


class BestEpoch:
    """The file `best-KEY.safetensors`: the trained weights of the best epoch, with its number and score."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / f"best-{key[:16]}.safetensors"

    def offer(self, model: nn.Module, epoch: int, score: float) -> None:
        """Keep the current weights, unless an earlier epoch had the same or a higher score."""
        kept = self.kept()
        if kept is None or score > kept[1]:
            with atomic_file(self._path, durable=False) as draft:
                save_file(trained_weights(model), draft, metadata={"epoch": str(epoch), "score": repr(score)})

    def kept(self) -> tuple[int, float] | None:
        """Return the best epoch so far and its score, or None if no epoch was offered yet."""
        if not self._path.exists():
            return None
        with safe_open(self._path, "pt") as file:
            facts = file.metadata()
        return int(facts["epoch"]), float(facts["score"])

    @torch.no_grad()
    def load(self, model: nn.Module) -> None:
        """Copy the weights of the best epoch into a model."""
        parameters = dict(model.named_parameters())
        with safe_open(self._path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                parameters[name].copy_(file.get_tensor(name))

    def remove(self) -> None:
        """Remove the file, after the results of the run were written."""
        self._path.unlink(missing_ok=True)
