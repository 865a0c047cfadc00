"""A teacher for pictures that were made elsewhere, by a person or by a service without an API, and lie in a folder.

Files are matched with prompts by name or by a table of pairs. A prompt without a file, with several, or with one that
can't be read is recorded as a failure that names the files, and the others go on. Files that serve several prompts, and
files without a prompt, are listed on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from teacher_cache.errors import PromptError, SpecError
from teacher_cache.format.pixels import SUFFIXES, picture_suffix
from teacher_cache.keys import normalise, sha256
from teacher_cache.registry.specs import Spec
from teacher_cache.tables import read_rows
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.teachers.folder_names import FolderNames

_PICTURES = {*(f".{suffix}" for suffix in SUFFIXES.values()), ".jpeg", ".jpe", ".jfif", ".apng", ".tiff"}
_OTHER_PICTURES = {".bmp", ".heic", ".heif", ".ico", ".jp2", ".jxl", ".ppm", ".psd", ".svg", ".tga"}  # that aren't read
_MOST_BYTES = 1 << 28  # per file
_LISTED = 5  # files named in a message


class Folder:
    """`folder:DIR[?name=midjourney-v7&pairs=FILE&prompt_column=prompt&file_column=file]`.

    By name: `a-red-cat.png` is the picture of "A red cat!" (see `folder_names`), and `a-red-cat.2.png` is its sample
    number 2 (with --samples). A file may also be named by the prompt's key, the SHA-256 of its text.

    By `pairs`: a .csv, .jsonl or .parquet file with one prompt and one file name, relative to DIR, per row; the n-th
    row of a prompt is its sample n.

    The key of a picture contains `name`, not the content of the file. By default `name` is DIR's own name and a digest
    of its full path, so that two folders of one name never share keys; give `name` to share keys between machines.
    """

    price_usd = None

    def __init__(self, spec: Spec) -> None:
        options = spec.options(
            {"name": "", "pairs": "", "prompt_column": "prompt", "file_column": "file", "licence": ""}
        )
        self._text, self._options = spec.text, options
        self._folder = Path(spec.model).expanduser()
        self._where = _text(self._folder)
        if not spec.model or not self._folder.is_dir():
            raise SpecError(f"{spec.text}: expected folder:DIR; there is no folder {_text(self._folder.absolute())}")
        self.licence = options["licence"] or "unknown"
        self.spec: Mapping[str, Any] = {"kind": "folder", "name": options["name"] or _own_name(self._folder)}

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request: the unchanged content of the picture's file, or a failure that says why there
        is none. Raise SpecError if the folder can't be listed, PromptError if the table can't be read."""
        served: dict[Path, list[Request]] = {}
        for request in requests:
            answer, used = self._answer(request)
            for path in used:
                served.setdefault(path, []).append(request)
            yield answer
        self._report(served)

    def _answer(self, request: Request) -> tuple[Picture | Failure, tuple[Path, ...]]:
        """Return the answer, and the files that match the prompt."""
        found, others = self._find(request)
        again = "and run: armada cache retry URL --reason permanent"
        if isinstance(found, str):
            message = found
        elif len(found) == 1:
            return self._read(request, found[0]), found
        elif found:
            names = _listed(found)
            message = (
                f"several pictures in {self._where} match ({names}); rename all but one, or use ?pairs=FILE, {again}"
            )
        elif others:
            names, known = _listed(others), ", ".join(SUFFIXES)
            message = f"no picture in {self._where}: expected {known}, found {names}; convert it {again}"
        else:
            message = f"no picture in {self._where}; add it {again}"
        return Failure(request.image_key, "permanent", message), (*found, *others) if not isinstance(found, str) else ()

    def _find(self, request: Request) -> tuple[tuple[Path, ...] | str, tuple[Path, ...]]:
        """Return the pictures that match a request, or what is wrong with its row of the table; and, if there is no
        picture, the other files that match."""
        if self._options["pairs"]:
            found = self._pairs.get((normalise(request.prompt), request.sample), ())
            return (found,) if isinstance(found, Path) else found, ()
        pictures = self._names.find(request.prompt, request.sample)
        others = () if pictures else self._other_names.find(request.prompt, request.sample)
        if disguised := tuple(path for path in others if _is_picture(path)):
            return disguised, ()
        return pictures, others

    def _read(self, request: Request, path: Path) -> Picture | Failure:
        key, where = request.image_key, _text(path)
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= _MOST_BYTES else b""
        except OSError as error:
            return Failure(key, "permanent", f"{where}: {error.strerror}")
        if size > _MOST_BYTES:
            return Failure(key, "undecodable", f"{where}: expected at most {_MOST_BYTES} bytes, found {size}")
        suffix = picture_suffix(data)
        if suffix is None:
            return Failure(key, "undecodable", f"{where}: expected {', '.join(SUFFIXES)}, found {size} other bytes")
        return Picture(key, data, suffix, where=where)

    def _report(self, served: Mapping[Path, list[Request]]) -> None:
        """List the files that serve several requests, and the pictures that serve none."""
        lines = []
        for path, requests in sorted(served.items()):
            if len(requests) > 1:
                prompts = ", ".join(repr(request.prompt[:60]) for request in requests[:_LISTED])
                more = ", ..." if len(requests) > _LISTED else ""
                lines.append(f"{_text(path.name)} serves {len(requests)} requests: {prompts}{more}")
        unused = [path for path in self._files if _is_named_like_a_picture(path) and path not in served]
        if unused:
            lines.append(f"pictures that match no requested prompt: {len(unused)} ({_listed(unused)})")
        for line in lines:
            print(f"{self._text}: {line}", file=sys.stderr)

    @cached_property
    def _files(self) -> list[Path]:
        """The folder's files in the order of their names, without the `._*` files that macOS adds."""
        try:
            return [path for path in sorted(self._folder.iterdir()) if _is_own_file(path)]
        except OSError as error:
            raise SpecError(f"{self._text}: {error.strerror}") from None

    @cached_property
    def _names(self) -> FolderNames:
        return FolderNames(path for path in self._files if path.suffix.lower() in _PICTURES)

    @cached_property
    def _other_names(self) -> FolderNames:
        return FolderNames(path for path in self._files if path.suffix.lower() not in _PICTURES)

    @cached_property
    def _pairs(self) -> dict[tuple[str, int], Path | str]:
        """(prompt, sample) -> its file, or what is wrong with the row of the table."""
        prompts, names = self._options["prompt_column"], self._options["file_column"]
        table = Path(self._options["pairs"]).expanduser()
        files: dict[tuple[str, int], Path | str] = {}
        samples: dict[str, int] = {}  # rows so far, by prompt
        root = self._folder.resolve()
        for number, row in enumerate(read_rows(table, [prompts, names]), 1):
            if not isinstance(row[prompts], str):
                raise PromptError(f"{table}: row {number}, column {prompts!r}: expected a text, found {row[prompts]!r}")
            prompt = normalise(row[prompts])
            sample = samples.get(prompt, 0)
            samples[prompt] = sample + 1
            files[prompt, sample] = _inside(root, row[names]) or (
                f"{table}: row {number}, column {names!r}: expected a picture in {self._where}, found {row[names]!r}"
            )
        return files


def _inside(root: Path, name: Any) -> Path | None:
    """Return the path of a file in the folder `root`, or None if the name is not one."""
    try:
        path = (root / str(name)).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _own_name(folder: Path) -> str:
    path = folder.resolve()
    return f"{_text(path.name)}-{sha256(str(path).encode('utf-8', 'surrogateescape'))[:12]}"


def _is_own_file(path: Path) -> bool:
    """Return whether a path is a file, and no companion `._NAME` in which macOS keeps a file's attributes."""
    try:
        return path.is_file() and (not path.name.startswith("._") or _is_picture(path))
    except OSError:
        return False


def _is_picture(path: Path) -> bool:
    """Return whether a file begins like a picture, whatever its name."""
    try:
        with path.open("rb") as stream:
            return picture_suffix(stream.read(256)) is not None
    except OSError:
        return False


def _is_named_like_a_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES | _OTHER_PICTURES


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(_text(path.name) for path in paths[:_LISTED]) + (", ..." if len(paths) > _LISTED else "")


def _text(path: Path | str) -> str:
    """Return a path for a message or a key. Bytes of a name that are no text are replaced."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
