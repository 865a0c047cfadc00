"""Files for others to read: complete or absent, and JSON that is strict; and whether a place can take one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that is complete or absent."""
    from teacher_cache import atomic_write  # here, since `armada --help` needs `json_text` alone

    atomic_write(path, json_text(value, indent=1).encode("utf-8"), durable=False)


def read_json(path: Path, writer: str, **kinds: Any) -> dict[str, Any]:
    """Return the JSON object in a file. `writer` is the command that writes it; `kinds` are the types of values that it
    has to have, by name, with None's for one that may be absent.

    Raise ArmadaError, which names the file, if it can't be read or has something else.
    """
    from teacher_cache import ArmadaError

    try:
        found = strict_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArmadaError(f"{path}: expected the JSON that {writer} writes, found: {error}") from None
    if not isinstance(found, dict):
        raise ArmadaError(f"{path}: expected the JSON object that {writer} writes, found {type(found).__name__}")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise ArmadaError(f"{path}: {name}: expected what {writer} writes, found {found.get(name)!r:.100}")
    return found


def strict_json(data: bytes) -> Any:
    """Return the value of strict JSON. Raise ValueError or RecursionError for what is none: infinities and half
    characters too, which Python's json reads."""
    found = json.loads(data)
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
    return found


def check_new_file(path: Path, force: bool) -> None:
    """Raise ArmadaError if a file is there already, unless it may be replaced, or if a folder is."""
    from teacher_cache import ArmadaError

    if os.path.isdir(path) or (os.path.lexists(path) and not force):
        raise ArmadaError(f"{path} is there already; replace it with --force, or write another file with --out")


def check_folder(flag: str, folder: Path) -> None:
    """Raise ArmadaError if a folder can't be written where it is asked for."""
    from teacher_cache import ArmadaError

    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ArmadaError(f"{flag} {folder}: expected a folder, or a place for one, found a file at {there}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArmadaError(f"{flag} {folder}: expected a folder that can be written, found that {there} can't")


def check_cache(url: str | None) -> None:
    """Raise ArmadaError if a cache's URL is the path of a file."""
    from teacher_cache import ArmadaError

    if url is not None and not url.strip():
        raise ArmadaError("--cache: expected a folder or a URL, found nothing")
    if url is not None and "://" not in url and Path(url).is_file():
        raise ArmadaError(f"--cache {url}: expected a folder or a URL, found a file")


def check_new_place(flag: str, path: Path) -> None:
    """Raise ArmadaError if a file can't be written where it is asked for. Missing folders are made for it later."""
    from teacher_cache import ArmadaError

    if path.is_dir():
        raise ArmadaError(f"{flag} {path}: expected a file, found a folder")
    check_folder(flag, path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the error of a file that can't be written into one that names it and the reason."""
    from teacher_cache import ArmadaError

    try:
        yield
    except OSError as error:
        raise ArmadaError(f"{path}: can't be written: {os.strerror(error.errno) if error.errno else error}") from None


def json_text(value: Any, **options: Any) -> str:
    """Return a value as strict JSON, which has no NaN and no infinity: they become null. `options` are json.dumps's."""
    return json.dumps(_strict(value), allow_nan=False, **options)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
