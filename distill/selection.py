"""Which epoch's weights are exported: the last one's, or those of the best epoch on a split. They are kept on the disk
beside the checkpoints, so that a resumed run picks as an unbroken one does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from distill.checkpoints import trained_weights


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
