"""What can be removed without loss: data that are computed again when they are needed, and what finished runs left.

Only files below `armada`'s own folder for derived data and below a folder that the user names are looked at, and links
are not followed. A cache is never entered: no picture, feature or commit is removed, and no picture that waits in a
spool. What a running process uses is kept.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from teacher_cache import ArmadaError, Cache, CacheError, is_matrix_in_use, remove_matrix, state_folder, user_folder

JUST_NOW_S = 60.0  # what was written since then may be in the making
_HOME = re.compile("[0-9a-f]{32}")  # the name of the folder of one cache's derived data
_CHECKPOINT = re.compile(r"(step-\d+\.pt|best-[0-9a-f]+\.safetensors)")
_MATRIX, _IN_THE_MAKING = "features, decoded", "it was written just now"


@dataclass(frozen=True)
class Item:
    """A file or folder, what it is, its size in bytes, and why it is kept; empty if it can be removed."""

    path: Path
    what: str
    bytes: int
    kept: str = ""


def find_items(folders: Iterable[Path] = ()) -> list[Item]:
    """Return what can be removed, and what is kept and why: of some folders, and of the caches in them; or, without
    folders, all that this user's caches left on this host. Raise ArmadaError if there is no such folder."""
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise ArmadaError(f"{folder}: expected a folder of runs, a study, a demo or a cache, found none")
    if folders:
        return [item for folder in folders for item in _of_folder(folder.resolve())]
    user = user_folder()
    homes = sorted(home for home in _entries(user / "caches") if _HOME.fullmatch(home.name))
    items = [item for home in homes for item in _derived(home)]
    items += _whole(user / "own-features" / "aligners", "aligners", each=True)
    items += [replace(one, kept="it takes half a minute to make") for one in _whole(user / "students", "students")]
    return [*items, *_of_state(state_folder())]


def remove(item: Item) -> Item:
    """Remove an item that can be, and return it; with the reason if it is kept after all."""
    if item.kept:
        return item
    try:
        if item.what == _MATRIX:
            if not remove_matrix(item.path):
                return replace(item, kept="a process reads it")
        elif item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink()
        _remove_empty(item.path.parent)
    except OSError as error:
        return replace(item, kept=f"it can't be removed: {error.strerror}")
    return item


def remove_student(run: Path) -> None:
    """Remove the weights of a finished run's student; what was measured of it is in run.json."""
    if (run / "run.json").is_file() and not (run / "student").is_symlink():
        shutil.rmtree(run / "student", ignore_errors=True)


def remove_derived(cache: Cache) -> None:
    """Remove what was computed from a cache and is no longer used, such as aligners."""
    for item in _derived(cache.derived_folder, just_now_s=0):
        remove(item)


def _derived(home: Path, just_now_s: float = JUST_NOW_S) -> Iterator[Item]:
    """Yield the data derived from one cache."""
    for matrix in _entries(home / "matrices"):
        if matrix.suffix == ".broken":
            yield Item(matrix, "damaged features", _size(matrix))
        elif matrix.is_dir() and not matrix.name.startswith("."):
            yield Item(matrix, _MATRIX, _size(matrix), "a process reads it" if is_matrix_in_use(matrix) else "")
    for name, what in (("fetched", "copies of remote shards"), ("catalogues", "lists of the gallery")):
        for one in _entries(home / name):
            if one.suffix != ".lock":
                yield _unless_new(Item(one, what, _size(one)), just_now_s)
    yield from _whole(home / "aligners", "aligners", each=True, just_now_s=just_now_s)


def _whole(folder: Path, what: str, *, each: bool = False, just_now_s: float = JUST_NOW_S) -> Iterator[Item]:
    """Yield a folder, or each of its entries, as one item."""
    for one in _entries(folder) if each else [folder] if folder.is_dir() else []:
        yield _unless_new(Item(one, what, _size(one)), just_now_s)


def _of_state(state: Path) -> Iterator[Item]:
    for name, why in (
        ("spools", "pictures that are not in a cache yet, and what was spent"),
        ("reports", "pages of builds; remove them by hand"),
    ):
        if _size(state / name):
            yield Item(state / name, name, _size(state / name), why)


def _of_folder(root: Path) -> Iterator[Item]:
    """Yield what finished runs left below a folder. A cache below it is kept, but not what was derived from it."""
    for place, names, files in os.walk(root):  # links to folders are not followed
        here = Path(place)
        if "cache.json" in files:
            names.clear()
            yield Item(here, "a cache", _size(here), "pictures, features and commits")
            try:
                yield from _derived(Cache(str(here)).derived_folder)
            except CacheError as error:
                yield Item(here, "a cache", 0, f"it can't be opened: {error}")
        elif ".lock" in files and "study.json" in files and _is_locked(here / ".lock"):
            names.clear()
            yield Item(here, "a study", _size(here), "it is running")
        elif "run.json" in files or "checkpoints" in names:
            names.clear()
            yield from _of_run(here)


def _of_run(run: Path) -> Iterator[Item]:
    """Yield what a run left: checkpoints if it is finished, and its students if a study has read their results."""
    is_read = (run / "outcome.json").is_file()
    for part in (run, run / "pretrained"):
        is_finished = (part / "run.json").is_file()
        for one in _entries(part / "checkpoints"):
            why = "" if is_finished else "the run is not finished, and goes on from it"
            if _CHECKPOINT.fullmatch(one.name):
                yield Item(one, "checkpoint", _size(one), why)
        student = part / "student"
        if student.is_dir() and not student.is_symlink():
            why = "" if is_read else "what the run trained" if is_finished else "the run is not finished"
            yield Item(student, "student", _size(student), why)


def _unless_new(item: Item, seconds: float) -> Item:
    try:
        newest = max((one.lstat().st_mtime for one in (item.path, *item.path.rglob("*"))), default=0.0)
    except OSError:  # another process writes or removes it
        newest = time.time()
    return replace(item, kept=_IN_THE_MAKING) if time.time() - newest < seconds else item


def _is_locked(path: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name; links are left out, and so is a folder that is a link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if not one.is_symlink())


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if path.exists() else 0
    return sum(
        (Path(place) / name).lstat().st_size
        for place, _, files in os.walk(path)
        for name in files
        if os.path.lexists(Path(place) / name)
    )


def _remove_empty(folder: Path) -> None:
    """Remove a folder of checkpoints or of derived data that has become empty."""
    if folder.name in ("checkpoints", "aligners") and not any(folder.iterdir()):
        folder.rmdir()
