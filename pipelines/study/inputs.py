"""What a study is about: the card of its task, its rows, and the files of the user that both come from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from distill import find_task, new_card
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill import Card, NewCard, Splits
    from pipelines.study.config import Study


class StudyTask(BaseModel):
    """The task of a study, as its file says it: a card's name or file, and rows as those of `train --data-files`.

    Without `task`, the card is made from `data_files`, the columns and the type, as by `armada train ROWS`. Paths start
    at the file's folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str | None = None
    data_files: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    type: str | None = None
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _has_rows(self) -> StudyTask:
        if not self.task and not self.data_files:
            raise ValueError("task: expected a task, or rows of your own as data_files, found neither")
        for key in ("text_column", "label_column", "type"):
            if self.task and getattr(self, key):
                raise ValueError(f"{key}: the card {self.task} says it; leave this out")
        return self

    @property
    def card_path(self) -> Path | None:
        """The file of the card, if it is the user's own."""
        return self._folder / self.task if self.task and Path(self.task).suffix in (".yaml", ".yml") else None

    @property
    def data_path(self) -> Path | None:
        """The file or folder of the user's rows, if there is one."""
        is_path = self.data_files and not self.data_files.startswith("hf:")
        return self._folder / str(self.data_files) if is_path else None

    def path_of(self, name: str) -> Path:
        """The file of a name in the study's file."""
        return self._folder / name

    @cached_property
    def made(self) -> NewCard | None:
        """The card that is made from the rows, if the study names none, with what was guessed of them."""
        rows = str(self.data_path or self.data_files)
        return None if self.task else new_card(rows, self.text_column, self.label_column, self.type)

    @cached_property
    def card(self) -> Card:
        """The card of the task. Raises ArmadaError if there is none or it is not valid."""
        return self.made.card if self.made else find_task(str(self.card_path or self.task))

    @property
    def task_name(self) -> str:
        """The task as the file names it, or the name of the card that is made from the rows."""
        return self.task or self.card.name

    @property
    def task_options(self) -> dict[str, Any]:
        """The options of `armada train` that name the task and its rows."""
        if self.made:
            rows = {"rows": str(self.data_path or self.data_files), "task": ""}
            return {**rows, "text_column": self.made.text, "label_column": self.made.label, "type": self.type}
        return {"task": str(self.card_path or self.task), "data_files": self.data_path}


def study_splits(study: Study) -> Splits:
    """The rows that a study trains and tests on; a question of a choice task counts as one row, with all its choices.

    Validation rows are read only where the study chooses its epochs on them. Raises ArmadaError where no row tests.
    """
    from distill import Split, load_splits

    splits = load_splits(study.card, study.data_path if study.task else None)
    if not len(splits.test):
        raise ArmadaError(
            f"study {study.name}: task {study.task_name}: {'; '.join(splits.notes)}; a study needs test rows"
        )
    validation = splits.validation if study.selects_on_validation else Split([], [], [], [])
    train, test = splits.train, splits.test
    if study.rows:
        train, test = train.first(study.rows.train), test.first(study.rows.test)
    return replace(splits, train=train, validation=validation, test=test, also={})


def input_digests(study: Study) -> dict[str, str]:
    """The sha256 of each file or folder of the user that decides the rows of a study, by the word that names it; none
    if the study is of a card and the rows of this package. Raises ArmadaError if one is missing."""
    found = {}
    if study.card_path:
        found["task"] = _digest(study.card_path)
        data = getattr(study.card.source, "data", None)  # rows that the card names
        if data and not study.data_path:
            found["source"] = _digest(study.card_path.parent / data)
    if study.data_path:
        found["data_files"] = _digest(study.data_path)
    return found


def _digest(path: Path) -> str:
    if not path.exists():
        raise ArmadaError(f"{path}: no such file or folder; the study's rows came from there")
    files = [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        name = file.relative_to(path).as_posix()
        digest.update(f"{name} {_file_digest(file, state.st_size, state.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _file_digest(path: Path, size: int, changed: int) -> str:
    """The sha256 of a file, read once for each size and time of change."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
