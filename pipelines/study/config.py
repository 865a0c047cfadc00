"""The study file: what is compared, how often, and what will be concluded, fixed before anything runs.

Its digest stands in every result. An error names the file, the key and what is expected there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from distill import UNDISTILLED, load_card
from pipelines.run.request import check_values, train_options
from teacher_cache import ArmadaError

ReadOut = Literal["finetune", "probe", "few_shot"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RowCounts(_Part):
    """How many rows of each split are taken, those of the smallest ids."""

    train: Annotated[int, Field(ge=2)]
    test: Annotated[int, Field(ge=2)]


class Arm(_Part):
    """One setting that is compared: a manifold loss, a control, or any other options of `armada train` by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    manifold: str = "relational"
    control: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the arm says, by the names of `armada train`'s options."""
        return {"manifold": self.manifold, "control": self.control, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _is_declared(self) -> Arm:
        _check(self.options, allowed=_ARM_OPTIONS)
        return self


class FewShot(_Part):
    """Pre-training over all rows, labels unseen, then fine-tuning on `labelled` rows.

    `objective` is what the student is fitted to: regression on the whitened features, as by `armada pretrain`, or the
    relational loss on the raw ones, as in the studies of 2026.
    """

    objective: Literal["relational", "regression"] = "relational"
    labelled: Annotated[int, Field(ge=2)]
    arms: Annotated[list[str], Field(min_length=1)]
    pretraining: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class ReadOuts(_Part):
    """What is measured of a student: fine-tuned; its frozen pooled output under a linear probe; after a few labels."""

    finetune: bool = True
    probe: bool = False
    few_shot: FewShot | None = None


class Primary(_Part):
    """The comparison that the verdict is about. `margin`: a difference below it counts as none. `metric` is one of the
    card's; by default its first."""

    readout: ReadOut = "finetune"
    metric: str | None = None
    arm: str
    against: Annotated[list[str], Field(min_length=1)]
    margin: Annotated[float, Field(gt=0)]
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8


class Study(_Part):
    """A study, as its file says it. Without `cache` the study builds its own, in its output folder, with no more than
    `max_calls` to the teacher in all."""

    name: str
    question: str
    notes: list[str] = []
    task: str
    student: str
    layers: int | None = None
    teacher: str
    encoder: str
    cache: str | None = None
    samples: Annotated[int, Field(ge=1)] = 1
    combine: Literal["mean", "draw"] = "mean"
    max_calls: Annotated[int, Field(ge=0)] | None = None
    rows: RowCounts
    seeds: Annotated[list[int], Field(min_length=1)]
    settings: dict[str, Any] = {}
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    readouts: ReadOuts = ReadOuts()
    primary: Primary

    @field_validator("seeds")
    @classmethod
    def _are_distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected each seed once, found {seeds}")
        return seeds

    @model_validator(mode="after")
    def _names_its_arms(self) -> Study:
        few = self.readouts.few_shot
        named = {"primary.arm": [self.primary.arm], "primary.against": self.primary.against}
        named |= {"readouts.few_shot.arms": few.arms} if few else {}
        for key, names in named.items():
            for name in names:
                if name not in self.arms:
                    raise ValueError(f"{key}: expected arms of this study ({', '.join(self.arms)}), found {name!r}")
        if self.arms.get(UNDISTILLED) != Arm(control=UNDISTILLED):
            raise ValueError("arms: expected one named undistilled, of control undistilled")
        for part in self._all_settings:
            _check(part, allowed=_SETTINGS)
            if part.get("select") == "test":
                raise ValueError(
                    "select: expected last or validation, found test: epochs chosen on the test rows would flatter "
                    "every arm, and the verdict with them"
                )
        return self

    @model_validator(mode="after")
    def _measures_what_it_concludes(self) -> Study:
        few, primary = self.readouts.few_shot, self.primary
        measured = {"finetune": self.readouts.finetune, "probe": self.readouts.probe, "few_shot": few is not None}
        if not measured[primary.readout]:
            raise ValueError(f"primary.readout: expected one that readouts switches on, found {primary.readout!r}")
        if few and primary.readout == "few_shot":
            for arm in (primary.arm, *primary.against):
                if arm not in few.arms:
                    raise ValueError(f"readouts.few_shot.arms: expected {arm!r}, which primary compares, among them")
        return self

    @property
    def _all_settings(self) -> list[dict[str, Any]]:
        few = self.readouts.few_shot
        return [self.settings, *([few.pretraining, few.settings] if few else [])]

    @property
    def metric(self) -> str:
        """The metric of the primary comparison."""
        return self.primary.metric or load_card(self.task).metrics[0]

    @property
    def selects_on_validation(self) -> bool:
        """True if the epochs of its students are chosen on validation rows."""
        return any(part.get("select") == "validation" for part in self._all_settings)


@dataclass(frozen=True)
class StudyFile:
    """A study, the path of its file, and the sha256 of the file's bytes."""

    study: Study
    path: Path
    text: str
    digest: str


def read_study(path: Path) -> StudyFile:
    """Read and check a study file. Raises ArmadaError."""
    if not path.is_file():
        raise ArmadaError(f"{path}: no such file; expected a study's YAML")
    return parse_study(path.read_bytes(), path)


def digest_of(data: bytes) -> str:
    """What names a study file in its results."""
    return hashlib.sha256(data).hexdigest()


def parse_study(data: bytes, path: Path) -> StudyFile:
    """A study from the bytes of its file. Raises ArmadaError, which names `path`."""
    try:
        study = Study.model_validate(yaml.safe_load(data))
    except yaml.YAMLError as error:
        raise ArmadaError(f"{path}: expected YAML: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, fault['loc'])) or 'study'}: {fault['msg']}" for fault in error.errors()]
        raise ArmadaError(f"{path}: " + f"\n{path}: ".join(lines)) from None
    _check_against_card(study, path)
    return StudyFile(study, path, data.decode("utf-8"), digest_of(data))


def _check_against_card(study: Study, path: Path) -> None:
    """Raise ArmadaError, which names `path` and the key, if the study's task cannot be measured as it says."""
    try:
        card = load_card(study.task)
    except ArmadaError as error:
        raise ArmadaError(f"{path}: task: {error}") from None
    if study.metric not in card.metrics:
        raise ArmadaError(
            f"{path}: primary.metric: expected a metric of {card.name} ({', '.join(card.metrics)}), "
            f"found {study.metric!r}"
        )
    if card.type == "generation" and (study.readouts.probe or study.readouts.few_shot):
        raise ArmadaError(f"{path}: readouts: expected finetune alone for the generation task {card.name}")


# What a study decides itself, once for all of its arms.
_OF_THE_STUDY = {"task", "student", "out", "cache", "seed", "recipe", "track", "select"}
_ARM_OPTIONS = set(train_options()) - _OF_THE_STUDY
_SETTINGS = {name for name, option in train_options().items() if option.part == "settings"} - {"seed", "manifold"}


def _check(values: dict[str, Any], allowed: set[str]) -> None:
    """Raise ValueError for an option that isn't allowed here, or for a value that it can't have."""
    for name in values:
        if name not in allowed:
            near = get_close_matches(name, allowed, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"expected one of {', '.join(sorted(allowed))}, found {name!r}{hint}")
    try:
        check_values(values)
    except ArmadaError as error:
        raise ValueError(str(error)) from None
