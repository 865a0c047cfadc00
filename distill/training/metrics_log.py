"""The metrics log of a run, `metrics.jsonl`: one line per optimiser step with its unweighted losses.

The metrics log of a resumed run equals that of an uninterrupted one: lines after the resumed step are removed first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from teacher_cache import atomic_write

TERMS = ("loss", "task", "output_alignment", "manifold")


class MetricsLog:
    """The lines of one run. `path` None writes none, as on all ranks but the first."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def cut(self, step: int) -> None:
        """Remove all lines after the first `step` steps."""
        if self._path is None or not self._path.exists():
            return
        lines = self._path.read_text("utf-8").splitlines(keepends=True)[:step]
        atomic_write(self._path, "".join(lines).encode("utf-8"), durable=False)

    def write(self, step: int, epoch: int, losses: Sequence[Sequence[float]]) -> list[Mapping[str, float]]:
        """Append one line per step after `step`, and return the lines.

        `losses` has one sequence of loss terms per step, in the order of TERMS. It is called when the losses are copied
        to the host, so that no step waits for them.
        """
        rows: list[Mapping[str, float]] = [
            {"step": step + number, "epoch": epoch, **dict(zip(TERMS, values, strict=False))}
            for number, values in enumerate(losses, 1)
        ]
        if self._path is not None and rows:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        return rows
