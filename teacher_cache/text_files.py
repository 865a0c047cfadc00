"""Texts read from a user's file: UTF-8, or an error that names the file and the line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from teacher_cache.errors import PromptError


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file. Raise PromptError, with the line, if it can't be read."""
    data = _bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PromptError(f"{path}: line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}") from None


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file that are not blank. Raise PromptError as `read_text`."""
    return (line.rstrip("\r") for line in read_text(path).split("\n") if line.strip())


def lone_surrogate(text: str) -> str:
    """Return what is wrong with a text that UTF-8 can't encode, or "" for any other text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"a lone surrogate at character {error.start + 1}"
    return ""


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a value of JSON, however deep in lists and objects."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            left += reversed(one)
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]


def check_file(path: Path) -> None:
    """Raise PromptError unless there is a file at the path."""
    if not os.path.isfile(path):
        raise PromptError(f"{path}: {'is a folder, expected a file' if os.path.isdir(path) else 'no such file'}")


def _bytes(path: Path) -> bytes:
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror}") from None
