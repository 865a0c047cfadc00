"""Task cards: the facts of a task in one YAML file, checked. `data/tasks/NAME.yaml` holds the card NAME."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from teacher_cache import ArmadaError

_HERE = Path(__file__).resolve().parent
FOLDERS = (_HERE / "_tasks", _HERE.parent / "data" / "tasks")  # in a wheel, in a checkout
Percent = Annotated[int, Field(ge=0, le=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageSource(_Strict):
    """A CSV inside an installed package."""

    package: str
    distribution: str
    extra: str
    path: str
    encoding: str = "utf-8"
    licence: str


class HashSplit(_Strict):
    """Percentages; a row's split is decided by the digest of its text, never by its place."""

    train: Percent
    validation: Percent
    test: Percent

    @model_validator(mode="after")
    def _adds_up(self) -> HashSplit:
        total = self.train + self.validation + self.test
        if total != 100:
            raise ValueError(f"expected percentages that add up to 100, found {total}")
        return self


class Card(_Strict):
    """A task. The teacher's prompt is built from exactly the fields that the student sees."""

    name: str
    title: str
    type: Literal["classification"]
    source: PackageSource
    clean: Literal["none", "ftfy"] = "none"
    text: Annotated[list[str], Field(min_length=1, max_length=2)]
    label: str
    labels: Annotated[list[str], Field(min_length=2)]
    prompt: str
    split: HashSplit
    metrics: list[Literal["accuracy", "macro_f1"]]

    @model_validator(mode="after")
    def _prompt_sees_what_the_student_sees(self) -> Card:
        fields = {name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None}
        if fields != set(self.text):
            raise ValueError(f"prompt: expected exactly the fields {self.text}, found {sorted(fields)}")
        return self


def card_names() -> list[str]:
    """The names of all cards, sorted."""
    return sorted(
        {path.relative_to(folder).with_suffix("").as_posix() for folder in FOLDERS for path in folder.rglob("*.yaml")}
    )


def load_card(name: str) -> Card:
    """The card of a task. Raises ArmadaError with the known names, or with the file, key and what was expected."""
    names = card_names()
    if name not in names:
        raise ArmadaError(f"no task {name!r}; known: {', '.join(names)}")
    path = next(folder / f"{name}.yaml" for folder in FOLDERS if (folder / f"{name}.yaml").is_file())
    return read_card(path)


def read_card(path: Path) -> Card:
    """The card in a file. Raises ArmadaError with the file, the key and what was expected."""
    try:
        return Card.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except yaml.YAMLError as error:
        raise ArmadaError(f"{path}: no readable YAML: {error}") from None
    except ValidationError as error:
        raise ArmadaError(f"{path}: {_in_words(error)}") from None


def _in_words(error: ValidationError) -> str:
    faults: Sequence[str] = [
        f"{'.'.join(map(str, fault['loc'])) or 'card'}: {fault['msg']} (found {fault['input']!r})"
        if fault["type"] != "value_error"
        else fault["msg"]
        for fault in error.errors()
    ]
    return "; ".join(faults)
