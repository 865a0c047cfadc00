"""The files of a local cache, of which none lies outside its root: links that lead out are neither read nor written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def contains(root: str, path: str) -> bool:
    """Return whether a path, which may not exist, lies below the folder `root` once all symbolic links are followed.

    `root` has no symbolic links.
    """
    return os.path.realpath(path).startswith(root.rstrip("/") + "/")


def sizes(root: str, folder: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the size in bytes of each finished file in a folder; none if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or (entry.is_symlink() and not contains(root, entry.path)):
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed after it was listed, or a broken link
                    if entry.is_file():
                        yield entry.name, entry.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return


def walk(root: str, folder: str) -> Iterator[str]:
    """Yield the paths, relative to `root`, of all finished files below a folder. Links to folders are not followed."""
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            full = os.path.join(path, name)
            if not name.startswith(".") and contains(root, full):
                yield os.path.relpath(full, root)


def links_out(root: str) -> Iterator[str]:
    """Yield the paths, relative to `root`, of the symbolic links that lead out of it."""
    for path, folders, names in os.walk(root):
        for name in [*folders, *names]:
            full = os.path.join(path, name)
            if os.path.islink(full) and not contains(root, full):
                yield os.path.relpath(full, root)
