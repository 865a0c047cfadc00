"""What a pilot said before a study, found by task, teacher and encoder, and whether the study says the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teacher_cache import ArmadaError

FILE, HOME = "pilot.json", "armada-pilot"
SAME = {"worth it": "helped", "not worth it": "did not help", "cannot tell yet": "cannot tell"}


@dataclass(frozen=True)
class PilotSaid:
    """The judgement of a pilot; `low` and `high` bound what pictures score above shuffled ones."""

    task: str
    teacher: str
    encoder: str
    worth: str
    sentence: str
    rows: int
    gain: float
    low: float
    high: float

    def agrees(self, verdict: str) -> bool:
        """Return whether a study's verdict says the same."""
        return SAME[self.worth] == verdict


def agreement_in_words(said: PilotSaid, verdict: str) -> str:
    """Return "agreed", "disagreed", or which of the two could not tell."""
    if said.agrees(verdict):
        return "agreed"
    if said.worth == "cannot tell yet":
        return "the pilot could not tell"
    return "the study cannot tell" if verdict == "cannot tell" else "disagreed"


def given_pilots(places: Iterable[Path]) -> list[PilotSaid]:
    """Read the pilots in files or folders, at any depth. Raise ArmadaError if there is none or one is not valid."""
    found = []
    for place in places:
        files = [place] if place.is_file() else sorted(place.rglob(FILE))
        if not files:
            raise ArmadaError(f"--pilot {place}: expected {FILE}, or a folder with one, as armada pilot writes it")
        found += [said for file in files if (said := read_pilot(file))]
    return found


def pilots_beside(folder: Path) -> list[PilotSaid]:
    """Read the pilots in a study's folder and in the one where `armada pilot` writes by default; none that is broken:
    nobody asked for it."""
    files = [folder / FILE, folder / "pilot" / FILE, *sorted(Path(HOME).rglob(FILE))]
    found = []
    for file in files:
        with suppress(ArmadaError):
            found += [said] if file.is_file() and (said := read_pilot(file)) else []
    return found


def read_pilot(path: Path) -> PilotSaid | None:
    """Return what a pilot.json says; None if too few pictures were there for a judgement. Raise ArmadaError."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        judged = found["judgement"]
        if judged is None:
            return None
        gain = judged["pictures_over_shuffled"]
        return PilotSaid(
            task=str(found["task"]),
            teacher=str(found["teacher"]),
            encoder=str(found["encoder"]),
            worth={worth: worth for worth in SAME}[judged["worth"]],
            sentence=str(judged["sentence"]),
            rows=int(judged["rows"]),
            gain=float(gain["mean"]),
            low=float(gain["low"]),
            high=float(gain["high"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        kind = type(error).__name__
        raise ArmadaError(f"{path}: expected what armada pilot writes, found {kind}: {error}") from None


def matching(pilots: Sequence[PilotSaid], task: str, teacher: str | None, encoder: str | None) -> PilotSaid | None:
    """Return the pilot of a task, teacher and encoder that has judged the most rows; None if there is none."""
    mine = [one for one in pilots if (one.task, one.teacher, one.encoder) == (task, teacher, encoder)]
    return max(mine, key=lambda one: one.rows, default=None)
