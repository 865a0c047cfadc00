"""The folders of a study's runs: what each was asked for, and whether that is still what the study file says.

A study file may be mended while the study runs: runs whose own part of the file is unchanged are kept, and the folder
of any other run is moved aside, never overwritten, and moved back if its settings return.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.files import read_json, write_json
from pipelines.study.config import Study, StudyFile
from pipelines.study.declared.parts import FewShot
from pipelines.study.inputs import input_digests
from pipelines.study.run import Run, read_outcome
from teacher_cache import canonical_json, sha256

REQUEST = "request.json"
# What changes no run: words, what is concluded, and how many runs and calls there are.
_OF_NO_RUN = {"name", "question", "notes", "seeds", "arms", "primary", "cache", "max_calls", "readouts"}
_OF_A_TEACHER = {"teacher", "encoder", "samples", "combine"}


def run_facts(study: Study, run: Run) -> dict[str, Any]:
    """Return what a study's file says of one run: everything that decides its outcome, and nothing else."""
    from distill import UNDISTILLED

    arm, few = study.arms[run.arm], study.readouts.few_shot
    is_taught = arm.control != UNDISTILLED
    skipped = _OF_NO_RUN | set(arm.options) if is_taught else _OF_NO_RUN | _OF_A_TEACHER
    facts = study.model_dump(mode="json", exclude_defaults=True, exclude=skipped)
    facts["arm"] = arm.model_dump(mode="json")
    if inputs := input_digests(study):
        facts["inputs"] = inputs
    if run.kind == "few_shot" and few:
        facts["few_shot"] = _few_shot_facts(few, run.arm)
    else:
        facts["readouts"] = study.readouts.model_dump(mode="json", include={"finetune", "probe"})
    found: dict[str, Any] = json.loads(json.dumps(facts))
    return found


def _few_shot_facts(few: FewShot, arm: str) -> dict[str, Any]:
    """Keys that came after 2026-11 count only if the file says something else than their default."""
    objective = few.objective_of(arm)
    facts = few.model_dump(mode="json", exclude={"arms", "objective", "objectives"})
    return facts if objective == "relational" else {**facts, "objective": objective}


def finished_outcomes(study: Study, runs: list[Run], out: Path) -> dict[Run, dict[str, Any]]:
    """Return the outcomes of the finished runs among these; of a run that was asked for otherwise, none."""
    outcomes = {}
    for run in runs:
        folder = _folder(out, run)
        outcome = read_outcome(folder)
        if outcome and _asked(folder) in (None, run_facts(study, run)):
            outcomes[run] = outcome
    return outcomes


def settle_folders(study: Study, runs: list[Run], out: Path) -> list[Run]:
    """Move aside the folders of runs that were asked for otherwise, and back those that were asked for as now.

    Return the runs whose folder was moved aside.
    """
    replaced = []
    for run in runs:
        folder, facts = _folder(out, run), run_facts(study, run)
        asked = _asked(folder)
        if asked is not None and asked != facts:
            _move(folder, _aside(out, run, asked))
            replaced.append(run)
        if not folder.exists() and _aside(out, run, facts).exists():
            _move(_aside(out, run, facts), folder)
    return replaced


def open_folder(file: StudyFile, run: Run, out: Path) -> Path:
    """Return the folder of a run, made and with a record of what is asked for."""
    folder = _folder(out, run)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / REQUEST).exists():
        write_json(folder / REQUEST, {"facts": run_facts(file.study, run), "study_sha256": file.digest})
    return folder


def _move(folder: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(to)


def _folder(out: Path, run: Run) -> Path:
    return out / "runs" / run.name


def _aside(out: Path, run: Run, facts: Any) -> Path:
    return out / "replaced" / f"{run.name}-{sha256(canonical_json(facts))[:12]}"


def _asked(folder: Path) -> dict[str, Any] | None:
    """Return the facts that a run was asked for; None if that is not recorded, as before 2026-12."""
    path = folder / REQUEST
    found: dict[str, Any] | None = read_json(path, "armada study", facts=dict)["facts"] if path.exists() else None
    return found
