"""The studies that are joined: each from its folder, or from a results.json that somebody else has published.

Joined results are written in the same form, so that ledgers merge: `armada report` reads them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pipelines.files import json_text, strict_json
from pipelines.study.findings import READOUTS
from pipelines.study.ledger.digests import sources_of
from pipelines.study.ledger.reruns import RESULTS
from pipelines.study.report import gather, results
from pipelines.study.verdicts.verdict import ReadoutVerdict
from teacher_cache import ArmadaError


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Difference(_Part):
    """A comparison as results.json has it; `bounds` are the interval that the verdict judges."""

    readout: str
    arm: str
    against: str
    is_primary: bool
    seeds: int
    mean: float
    bounds: tuple[float | None, float | None]
    p_both: float | None = None


class Values(_Part):
    """The values of an arm under a read-out."""

    readout: str
    arm: str
    seeds: list[int]
    values: list[float]
    mean: float


class Entry(_Part):
    """The results of one study, with all that its results.json says besides."""

    study: str
    question: str
    task: str
    student: str
    metric: str
    arm: str
    margin: float
    file_sha256: str
    verdict: str
    sentence: str
    finished: int
    planned: int
    test_rows: int
    tested_on: str
    measured: tuple[Values, ...]
    comparisons: tuple[Difference, ...]
    by_readout: tuple[ReadoutVerdict, ...]
    changes: tuple[str, ...] = ()
    ledger: dict[str, Any] = {}

    @field_validator("by_readout")
    @classmethod
    def _are_read_outs(cls, found: tuple[ReadoutVerdict, ...]) -> tuple[ReadoutVerdict, ...]:
        if unknown := [one.readout for one in found if one.readout not in READOUTS]:
            raise ValueError(f"expected read-outs ({', '.join(READOUTS)}), found {unknown[0]!r:.90}")
        return found

    @field_validator("ledger")
    @classmethod
    def _has_runs(cls, ledger: dict[str, Any]) -> dict[str, Any]:
        runs = ledger.get("runs", {})
        if not isinstance(runs, dict) or not all(isinstance(run, dict) for run in runs.values()):
            raise ValueError("expected the runs of a ledger by their names")
        return ledger

    def of(self, readout: str) -> list[Difference]:
        """Return the differences that the verdict on a read-out judges."""
        judged = next(one for one in self.by_readout if one.readout == readout)
        return [
            one
            for one in self.comparisons
            if (one.readout, one.arm, one.is_primary) == (readout, self.arm, judged.is_primary)
            and one.against in judged.against
        ]

    @property
    def sources(self) -> tuple[str | None, str | None]:
        """The names of the teacher and the encoder that the primary arm has read; None if they are not recorded."""
        return sources_of(self.ledger, self.arm)


def entries_of(places: Iterable[Path]) -> list[tuple[Path, Entry]]:
    """Return the studies in folders and results, with their place, in this order; what is the same counts once.

    Raise ArmadaError if a place is neither a study's folder nor results with a ledger.
    """
    found: dict[str, tuple[Path, Entry]] = {}
    for place in places:
        for entry in _read(place):
            known = entry.model_dump_json(include={"file_sha256", "measured", "comparisons", "finished"})
            found.setdefault(known, (place, entry))
    return list(found.values())


def _read(place: Path) -> list[Entry]:
    if place.is_dir() and (place / "study.json").is_file():
        return [Entry.model_validate(json.loads(json_text(results(gather(place)))))]
    path = place / RESULTS if place.is_dir() else place
    if not path.is_file():
        raise ArmadaError(f"{place}: expected a study's folder, or {RESULTS} of one or several studies; found neither")
    try:
        data = strict_json(path.read_bytes())
        studies = data["studies"] if isinstance(data, dict) and "studies" in data else [data]
        return [Entry.model_validate(one) for one in studies]
    except ValidationError as error:
        fault = error.errors()[0]
        place_in = ".".join(map(str, fault["loc"])) or "file"
        raise ArmadaError(
            f"{path}: {place_in}: {fault['msg']}; expected results as armada report writes them since 2026-12; "
            "write them again by: armada report DIR"
        ) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ArmadaError(f"{path}: expected the JSON of results, found: {error}") from None
