"""Prompts read from a user's file: .txt (one prompt per line), .jsonl, .csv or .parquet, or a folder of such parts.

A row that can't be a prompt is an error that names the file, the row and the column: no row is skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from teacher_cache.errors import PromptError
from teacher_cache.tables import SUFFIXES, read_column
from teacher_cache.text_files import lone_surrogate, text_lines


def read_prompts(path: Path, column: str = "text") -> list[str]:
    """Return the prompts of a file as a list; see `iterate_prompts`."""
    return list(iterate_prompts(path, column))


def iterate_prompts(path: Path, column: str = "text") -> Iterator[str]:
    """Yield the prompts of a file in the file's order, with duplicates. `column` is not used for a .txt file.

    Blank lines of a .txt or .jsonl file are not rows. Raise PromptError if the file can't be read or a row is not a
    prompt.
    """
    if path.suffix == ".txt":
        return checked_prompts(text_lines(path), str(path), "line")
    if path.suffix not in SUFFIXES:
        found = "a folder" if path.is_dir() else path.suffix or "no ending"
        raise PromptError(f"{path}: expected a file ending in .txt, {', '.join(SUFFIXES)}, found {found}")
    return checked_prompts(read_column(path, column), str(path), column)


def check_prompts(prompts: Iterable[Any], source: str, column: str) -> list[str]:
    """Return the prompts as a list of non-empty texts; see `checked_prompts`."""
    return list(checked_prompts(prompts, source, column))


def checked_prompts(prompts: Iterable[Any], source: str, column: str) -> Iterator[str]:
    """Yield the prompts, each a non-empty text.

    Raise PromptError for the first value that is not such a text, or if there is none; `source` names the file or the
    data set in the message.
    """
    number = 0
    for number, prompt in enumerate(prompts, 1):
        fault = _fault(prompt)
        if fault:
            raise PromptError(
                f"{source}: row {number}, column {column!r}: expected a text, found {fault}; mend the row"
            )
        yield prompt
    if not number:
        raise PromptError(f"{source}: expected at least one prompt, found none")


def _fault(prompt: Any) -> str:
    """Return what makes a value unusable as a prompt, or "" if it is a prompt."""
    if prompt is None:
        return "null"
    if not isinstance(prompt, str):
        return f"the {type(prompt).__name__} {repr(prompt)[:80]}"
    if not prompt.strip():
        return "an empty text"
    return lone_surrogate(prompt)
