"""The parts of a study file: its rows, arms, read-outs and primary comparison."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.study.declared.faults import check_options

ReadOut = Literal["finetune", "probe", "few_shot"]
PretrainObjective = Literal["relational", "regression", "masked"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RowCounts(Part):
    """How many rows of each split are taken, those of the smallest ids."""

    train: Annotated[int, Field(ge=2)]
    test: Annotated[int, Field(ge=2)]


class Arm(Part):
    """One setting that is compared: a manifold loss, a control, or any other options of `armada train` by name, its
    encoder and its teacher among them. What an arm says wins over what the study says. Without an objective it has
    `armada`, so that a registered file keeps its meaning."""

    model_config = ConfigDict(extra="allow", frozen=True)

    manifold: str = "relational"
    control: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the arm says, by the names of `armada train`'s options."""
        return {"manifold": self.manifold, "control": self.control, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _is_declared(self) -> Arm:
        check_options(self.options, "arm")
        return self


class FewShot(Part):
    """Pre-training over all rows, labels unseen, then fine-tuning on `labelled` rows.

    `objective` is what the student is fitted to: regression on the whitened features, as by `armada pretrain`, or the
    relational loss on the raw ones, as in the studies of 2026. `objectives` says another one for arms by name. `masked`
    is masked language modelling on the same texts without pictures: the arm of it has the control undistilled, and is
    measured after a few labels only.
    """

    objective: PretrainObjective = "relational"
    objectives: dict[str, PretrainObjective] = {}
    labelled: Annotated[int, Field(ge=2)]
    arms: Annotated[list[str], Field(min_length=1)]
    pretraining: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    def objective_of(self, arm: str) -> PretrainObjective:
        """What the student of an arm is pre-trained by, unless the arm is undistilled."""
        return self.objectives.get(arm, self.objective)


class ReadOuts(Part):
    """What is measured of a student: fine-tuned; its frozen pooled output under a linear probe; after a few labels."""

    finetune: bool = True
    probe: bool = False
    few_shot: FewShot | None = None


class Primary(Part):
    """The comparison that the verdict is about. `margin`: a difference below it counts as none. `metric` is one of the
    card's; by default its first."""

    readout: ReadOut = "finetune"
    metric: str | None = None
    arm: str
    against: Annotated[list[str], Field(min_length=1)]
    margin: Annotated[float, Field(gt=0)]
    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
