"""What a study is about: the card of its task, its rows, and the files of the user that both come from.

Paths in a study file start at the file's folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill import Splits
    from pipelines.study.config import Study


def study_splits(study: Study) -> Splits:
    """The rows that a study trains and tests on; a question of a choice task counts as one row, with all its choices.

    Validation rows are read only where the study chooses its epochs on them. Raises ArmadaError where no row tests.
    """
    from distill import Split, load_splits

    splits = load_splits(study.card, study.data_path)
    if not len(splits.test):
        raise ArmadaError(f"study {study.name}: task {study.task}: {'; '.join(splits.notes)}; a study needs test rows")
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
