"""Pictures made elsewhere, by a person or by a service without an interface: found in a folder for each prompt.

A file belongs to a prompt by name, or by a table of pairs. What isn't matched, on either side, is said.
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
_SHOWN = 5  # names of unmatched files in the note


class Folder:
    """`folder:DIR[?name=midjourney-v7&pairs=FILE&prompt_column=prompt&file_column=file]`.

    By name: `a-red-cat.png` is the picture of "A red cat!", letters and digits decide; `a-red-cat.2.png` is its sample
    number 2 (with --samples), and a prompt's key (the SHA-256 of its text) is a name too. By `pairs`: a .csv, .jsonl or
    .parquet with a prompt and a file, relative to DIR, a row; the n-th row of a prompt is its sample n. The folder is
    known by `name` (that of DIR, where it isn't given), not by its place or its pictures.
    """

    price_usd = None

    def __init__(self, spec: Spec) -> None:
        options = spec.options(
            {"name": "", "pairs": "", "prompt_column": "prompt", "file_column": "file", "licence": ""}
        )
        self._text, self._options = spec.text, options
        self._folder = Path(spec.model).expanduser()
        if not spec.model or not self._folder.is_dir():
            raise SpecError(f"{spec.text}: expected folder:DIR, found no folder {self._folder.absolute()}")
        self.licence = options["licence"] or "unknown"
        self.spec: Mapping[str, Any] = {"kind": "folder", "name": options["name"] or self._folder.resolve().name}

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """One answer a request: the picture as it is in its file, or a permanent failure where there is none."""
        used: set[Path] = set()
        for request in requests:
            path = self._find(request)
            if path is None:
                why = f"no picture in {self._folder}; add it and run: armada cache retry URL --reason permanent"
                yield Failure(request.image_key, "permanent", why)
                continue
            used.add(path)
            try:
                yield Picture(request.image_key, path.read_bytes(), _SUFFIXES[path.suffix.lower()])
            except OSError as error:
                yield Failure(request.image_key, "permanent", f"{path}: {error.strerror}")
        left = sorted(path.name for path in {*self._files.values()} - used)
        if left:
            names = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
            print(
                f"{self._text}: {len(left)} pictures belong to none of the prompts asked for: {names}", file=sys.stderr
            )

    def _find(self, request: Request) -> Path | None:
        if self._options["pairs"]:
            return self._files.get((normalise(request.prompt), request.sample))
        found = self._files.get((prompt_key(request.prompt), request.sample))
        return found or self._files.get((words(request.prompt), request.sample))

    @cached_property
    def _files(self) -> dict[tuple[str, int], Path]:
        """(prompt or name, sample) -> file. Raises ArmadaError where two files have one name."""
        return self._by_pairs() if self._options["pairs"] else self._by_name()

    def _by_name(self) -> dict[tuple[str, int], Path]:
        files: dict[tuple[str, int], Path] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                stem, _, number = path.stem.rpartition(".")
                key = (words(stem), int(number)) if stem and number.isdecimal() else (words(path.stem), 0)
                if key in files:
                    raise ArmadaError(
                        f"{path}: the same words as {files[key].name}; remove one, or pair them by ?pairs=FILE"
                    )
                files[key] = path
        return files

    def _by_pairs(self) -> dict[tuple[str, int], Path]:
        prompts, names = self._options["prompt_column"], self._options["file_column"]
        table = Path(self._options["pairs"]).expanduser()
        files: dict[tuple[str, int], Path] = {}
        seen: dict[str, int] = {}
        root = self._folder.resolve()
        for number, row in enumerate(read_rows(table, [prompts, names]), 1):
            path = root / str(row[names])
            if not path.resolve().is_relative_to(root) or path.suffix.lower() not in _SUFFIXES or not path.is_file():
                expected = f"a picture ({', '.join(_SUFFIXES)}) in {self._folder}"
                raise ArmadaError(f"{table}: row {number}, column {names!r}: expected {expected}, found {row[names]!r}")
            prompt = normalise(str(row[prompts]))
            sample = seen.get(prompt, 0)
            seen[prompt] = sample + 1
            files[prompt, sample] = path
        return files


def words(text: str) -> str:
    """A text as a file's name may hold it: its letters and digits, lower case, other runs a hyphen."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text).lower()).strip("-")
