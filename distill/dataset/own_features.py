"""Features of one's own: a file of vectors, each with the key of the row that it belongs to.

A row gets a feature by its key and never by its place in the file. Nothing of a file is executed: arrays of Python
objects are refused. An array (.npy) is mapped into memory and read row by row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.dataset.feature_files import KeyColumn, read_array, read_keys, read_table
from distill.tasks.splits import Split
from teacher_cache import ArmadaError, prompt_key, sha256

ENDS = ("txt", "jsonl", "parquet")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20  # bytes hashed at once


@dataclass(frozen=True)
class ArrayRows:
    """An array (N, L) as FeatureRows; numbers of 64 bits are read as those of 32."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return np.dtype(np.float16 if self.array.dtype.itemsize == 2 else np.float32)

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See FeatureRows."""
        with np.errstate(over="ignore"):  # a number that is too large becomes an infinity, which the join refuses
            taken = np.take(self.array, rows, axis=0).astype(self.dtype, copy=False)
        if out is None:
            return taken
        out[...] = taken
        return out

    def warm(self) -> None:
        """See FeatureRows."""


@dataclass(frozen=True)
class OwnFeatures:
    """The rows of a file, and where each key has its rows. Rows of one key are its samples, 0, 1, ..."""

    path: Path
    kind: str  # what the keys are: prompt, prompt_key or id
    rows: ArrayRows  # (N, L)
    tables: tuple[dict[str, int], ...]  # for each sample, from the digest of a key to its row
    digest: str  # of the bytes of the file and of its keys
    some_keys: tuple[str, ...]  # for messages

    def places(self, split: Split, sample: int = 0) -> np.ndarray:
        """Return the row of each row of a split, (len(split),) int64; -1 if the file has none for it."""
        table = self.tables[sample] if sample < len(self.tables) else {}
        return np.array([table.get(key, -1) for key in self.keys_of(split)], np.int64)

    def keys_of(self, split: Split) -> Iterable[str]:
        """Return the keys by which the rows of a split are looked up."""
        return split.ids if self.kind == "id" else map(prompt_key, split.prompts)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the features (B, L) of rows (B,)."""
        return self.rows.take(rows)

    def pictures_of(self, rows: np.ndarray) -> list[str]:
        """Return the digest of each feature, which stands for the picture, the sound or the film that it is of."""
        return [sha256(self.rows.take(rows[place : place + 1]).tobytes()) for place in range(len(rows))]


def open_own_features(path: Path, keys: Path | None, split: Split) -> OwnFeatures:
    """Open a file of features.

    Args:
        path: a .parquet file with a column of keys and a column of vectors, or a .npy file with an array (N, L).
        keys: for a .npy file, the file with the key of each of its rows; by default FILE.keys.txt, .jsonl or .parquet.
        split: the training rows; they tell whether keys that are all digests are those of prompts or of rows.

    Raise ArmadaError, with the file, what was expected and what was found, and CoverageError if vectors have different
    lengths.
    """
    if not path.is_file():
        raise ArmadaError(f"--features: no such file: {path}")
    if path.suffix == ".parquet":
        column, array = read_table(path)
        files = [path]
    else:
        array = read_array(path)
        keys = keys or _beside(path)
        column = read_keys(keys)
        files = [path, keys]
        if len(column.keys) != len(array):
            raise ArmadaError(
                f"{keys}: expected a key for each of the {len(array)} rows of {path}, found {len(column.keys)}"
            )
    if not len(array):
        raise ArmadaError(f"{path}: expected features, found no row")
    kind = column.kind or _kind_of(column.keys, split)
    return OwnFeatures(path, kind, ArrayRows(array), _tables(column, kind), _digest(files), tuple(column.keys[:3]))


def _beside(path: Path) -> Path:
    """The file of keys beside an array."""
    names = [path.with_name(f"{stem}.keys.{end}") for stem in (path.name, path.stem) for end in ENDS]
    found = [name for name in names if name.is_file()]
    if len(found) != 1:
        raise ArmadaError(
            f"{path}: expected one file with the key of each row beside it, as {names[0].name} with a prompt per line, "
            f"found {', '.join(name.name for name in found) or 'none'}; or name it: --feature-keys FILE"
        )
    return found[0]


def _kind_of(keys: Sequence[str], split: Split) -> str:
    """What keys without a name are: prompts, or digests of prompts or of rows, of which those that fit are taken."""
    if not all(_DIGEST.fullmatch(key) for key in keys):
        return "prompt"
    known = set(keys)
    as_ids = sum(one in known for one in split.ids)
    return "id" if as_ids > sum(prompt_key(prompt) in known for prompt in split.prompts) else "prompt_key"


def _tables(column: KeyColumn, kind: str) -> tuple[dict[str, int], ...]:
    tables: list[dict[str, int]] = []
    seen: dict[str, int] = {}
    for row, given in enumerate(column.keys):
        key = prompt_key(given) if kind == "prompt" else given
        sample = seen.get(key, 0) if column.samples is None else column.samples[row]
        seen[key] = sample + 1
        if column.samples is not None and sample < len(tables) and key in tables[sample]:
            raise ArmadaError(f"{column.where}: expected one row for sample {sample} of {given[:90]!r}, found several")
        tables += [{} for _ in range(sample + 1 - len(tables))]
        tables[sample][key] = row
    return tuple(tables)


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()
