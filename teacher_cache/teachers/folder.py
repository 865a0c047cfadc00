"""A teacher for pictures that were made elsewhere, by a person or by a service without an API, and lie in a folder.

Files are matched with prompts by name or by a table of pairs. Prompts without a file are recorded as failures; files
without a prompt are listed on standard error.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from teacher_cache.errors import ArmadaError, SpecError
from teacher_cache.keys import normalise, prompt_key
from teacher_cache.prompts import read_rows
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request

_SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}
_LISTED = 5  # unmatched files named in the message


class Folder:
    """`folder:DIR[?name=midjourney-v7&pairs=FILE&prompt_column=prompt&file_column=file]`.

    By name: `a-red-cat.png` is the picture of "A red cat!"; only letters and digits are compared. `a-red-cat.2.png` is
    its sample number 2 (with --samples). A file may also be named by the prompt's key, the SHA-256 of its text.

    By `pairs`: a .csv, .jsonl or .parquet file with one prompt and one file name, relative to DIR, per row; the n-th
    row of a prompt is its sample n.

    The key of a picture contains `name` (by default the name of DIR), not the path of DIR or the content of the file.
    """

    price_usd = None

    def __init__(self, spec: Spec) -> None:
        options = spec.options(
            {"name": "", "pairs": "", "prompt_column": "prompt", "file_column": "file", "licence": ""}
        )
        self._text, self._options = spec.text, options
        self._folder = Path(spec.model).expanduser()
        if not spec.model or not self._folder.is_dir():
            raise SpecError(f"{spec.text}: expected folder:DIR; there is no folder {self._folder.absolute()}")
        self.licence = options["licence"] or "unknown"
        self.spec: Mapping[str, Any] = {"kind": "folder", "name": options["name"] or self._folder.resolve().name}

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request: the unchanged content of the picture's file, or a permanent failure if there is
        none. Raises ArmadaError if two files have the same name, or a row of the table names no picture."""
        used: set[Path] = set()
        for request in requests:
            path = self._find(request)
            if path is None:
                message = f"no picture in {self._folder}; add it and run: armada cache retry URL --reason permanent"
                yield Failure(request.image_key, "permanent", message)
                continue
            used.add(path)
            try:
                yield Picture(request.image_key, path.read_bytes(), _SUFFIXES[path.suffix.lower()])
            except OSError as error:
                yield Failure(request.image_key, "permanent", f"{path}: {error.strerror}")
        unused = sorted(path.name for path in {*self._files.values()} - used)
        if unused:
            names = ", ".join(unused[:_LISTED]) + (", ..." if len(unused) > _LISTED else "")
            print(f"{self._text}: pictures that match no requested prompt: {len(unused)} ({names})", file=sys.stderr)

    def _find(self, request: Request) -> Path | None:
        if self._options["pairs"]:
            return self._files.get((normalise(request.prompt), request.sample))
        found = self._files.get((prompt_key(request.prompt), request.sample))
        return found or self._files.get((words(request.prompt), request.sample))

    @cached_property
    def _files(self) -> dict[tuple[str, int], Path]:
        """(prompt or name, sample) -> file. Raises ArmadaError if two files have the same name."""
        return self._by_pairs() if self._options["pairs"] else self._by_name()

    def _by_name(self) -> dict[tuple[str, int], Path]:
        files: dict[tuple[str, int], Path] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                stem, _, number = path.stem.rpartition(".")
                key = (words(stem), int(number)) if stem and number.isdecimal() else (words(path.stem), 0)
                if key in files:
                    raise ArmadaError(
                        f"{path}: has the same words as {files[key].name}; remove one of them, or use ?pairs=FILE"
                    )
                files[key] = path
        return files

    def _by_pairs(self) -> dict[tuple[str, int], Path]:
        prompts, names = self._options["prompt_column"], self._options["file_column"]
        table = Path(self._options["pairs"]).expanduser()
        files: dict[tuple[str, int], Path] = {}
        samples: dict[str, int] = {}  # rows so far, by prompt
        root = self._folder.resolve()
        for number, row in enumerate(read_rows(table, [prompts, names]), 1):
            path = root / str(row[names])
            if not path.resolve().is_relative_to(root) or path.suffix.lower() not in _SUFFIXES or not path.is_file():
                expected = f"a picture ({', '.join(_SUFFIXES)}) in {self._folder}"
                raise ArmadaError(f"{table}: row {number}, column {names!r}: expected {expected}, found {row[names]!r}")
            prompt = normalise(str(row[prompts]))
            sample = samples.get(prompt, 0)
            samples[prompt] = sample + 1
            files[prompt, sample] = path
        return files


def words(text: str) -> str:
    """Return a text in the form in which file names are compared: letters and digits in lower case, a hyphen for each
    run of other characters."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text).lower()).strip("-")
