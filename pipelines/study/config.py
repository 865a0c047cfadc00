"""The study file: what is compared, how often, and what will be concluded, fixed before anything runs.

Its digest stands in every result. An error names the file, the key and what is expected there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from distill import UNDISTILLED, find_control, parse_yaml
from pipelines.study.declared.faults import check_options, in_words
from pipelines.study.declared.parts import Arm, Primary, ReadOuts, RowCounts
from pipelines.study.inputs import StudyTask
from teacher_cache import ArmadaError


class Study(StudyTask, BaseModel):
    """A study, as its file says it. Without `rows`, all rows of its task are used.

    `settings` are options of `armada train` for all arms. Without `cache` the study builds its own, in its output
    folder, with no more than `max_calls` to its teachers in all.
    """

    name: str
    question: str
    notes: list[str] = []
    student: str
    layers: int | None = None
    teacher: str | None = None
    encoder: str | None = None
    cache: str | None = None
    samples: Annotated[int, Field(ge=1)] = 1
    combine: Literal["mean", "draw"] = "mean"
    max_calls: Annotated[int, Field(ge=0)] | None = None
    rows: RowCounts | None = None
    seeds: Annotated[list[int], Field(min_length=1)]
    settings: dict[str, Any] = {}
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    readouts: ReadOuts = ReadOuts()
    primary: Primary

    @field_validator("arms", mode="before")
    @classmethod
    def _may_be_empty(cls, arms: Any) -> Any:
        return {name: arm or {} for name, arm in arms.items()} if isinstance(arms, dict) else arms

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
        if few:
            named |= {"readouts.few_shot.arms": few.arms, "readouts.few_shot.objectives": list(few.objectives)}
        for key, names in named.items():
            for name in names:
                if name not in self.arms:
                    raise ValueError(f"{key}: expected arms of this study ({', '.join(self.arms)}), found {name!r}")
        if self.arms.get(UNDISTILLED) != Arm(control=UNDISTILLED):
            raise ValueError("arms: expected one named undistilled, of control undistilled")
        for name in self.arms:
            if not name.isprintable() or ".." in Path(name).parts or not 0 < len(name) < 150 or name[0] in "/.":
                raise ValueError(f"arms: expected names that may be a folder's, found {name[:150]!r}")
        for key, part in self._all_settings.items():
            check_options(part, key)
        for name in self.masked_arms:
            if self.arms[name] != Arm(control=UNDISTILLED) or name == UNDISTILLED:
                raise ValueError(
                    f"arms.{name}: expected the control undistilled and nothing else, beside the arm undistilled "
                    "itself: it is pre-trained by masked language modelling, without pictures"
                )
        return self

    @model_validator(mode="after")
    def _has_features_for_each_arm(self) -> Study:
        for name, arm in self.arms.items():
            for key in ("teacher", "encoder"):
                own = arm.options.get("features") or self.settings.get("features")
                is_said = getattr(self, key) or arm.options.get(key) or self.cache or own
                if arm.control != UNDISTILLED and not is_said:
                    raise ValueError(f"arms.{name}.{key}: expected one of this arm, or of the whole study, found none")
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
    def _all_settings(self) -> dict[str, dict[str, Any]]:
        few = self.readouts.few_shot
        parts = {f"readouts.few_shot.{key}": getattr(few, key) for key in ("pretraining", "settings") if few}
        return {"settings": self.settings, **parts}

    @property
    def masked_arms(self) -> list[str]:
        """The arms that are pre-trained without pictures; they are measured after a few labels only."""
        few = self.readouts.few_shot
        named = dict.fromkeys([*few.arms, *few.objectives]) if few else {}
        return [name for name in named if few and name != UNDISTILLED and few.objective_of(name) == "masked"]

    @property
    def arms_without_objective(self) -> list[str]:
        """The arms with a teacher that name no objective and no manifold loss: they have `armada` and relational."""
        found = []
        for name, arm in self.arms.items():
            control = find_control(arm.control)
            is_taught = arm.control != UNDISTILLED and not (control and control.aligner == "none")
            if is_taught and {"objective", "manifold"}.isdisjoint({*self.settings, *arm.model_fields_set}):
                found.append(name)
        return found

    @property
    def metric(self) -> str:
        """The metric of the primary comparison."""
        return self.primary.metric or self.card.metrics[0]

    @property
    def selects_on_validation(self) -> bool:
        """True if the epochs of its students are chosen on validation rows."""
        said = [*self._all_settings.values(), *(arm.options for arm in self.arms.values())]
        return any(part.get("select") == "validation" or part.get("early_stopping_patience") for part in said)


@dataclass(frozen=True)
class StudyFile:
    """A study, the path of its file, and the sha256 of the file's bytes. With `read_from`, the study has that cache."""

    study: Study
    path: Path
    text: str
    digest: str
    read_from: str | None = None


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
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ArmadaError(f"{path}: line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}") from None
    try:
        study = Study.model_validate(parse_yaml(text.removeprefix("\ufeff"), path))
    except ValidationError as error:
        raise ArmadaError("\n".join(f"{path}: {line}" for line in in_words(error, Study))) from None
    study._folder = path.parent.resolve()
    _check_against_card(study, path)
    return StudyFile(study, path, text, digest_of(data))


def _check_against_card(study: Study, path: Path) -> None:
    """Raise ArmadaError, which names `path` and the key, if the study's task cannot be measured as it says."""
    if study.data_path and not study.data_path.exists():
        raise ArmadaError(f"{path}: data_files: no such file or folder: {study.data_path}")
    try:
        card = study.card
    except ArmadaError as error:
        raise ArmadaError(f"{path}: {'task' if study.task else 'data_files'}: {error}") from None
    if study.metric not in card.metrics:
        raise ArmadaError(
            f"{path}: primary.metric: expected a metric of {card.name} ({', '.join(card.metrics)}), "
            f"found {study.metric!r}"
        )
    if card.type == "generation" and (study.readouts.probe or study.readouts.few_shot):
        raise ArmadaError(f"{path}: readouts: expected finetune alone for the generation task {card.name}")
    if card.type == "similarity" and study.readouts.probe:
        raise ArmadaError(
            f"{path}: readouts.probe: expected none for the similarity task {card.name}: it has no classes"
        )
