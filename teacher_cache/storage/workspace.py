"""Work in progress on a cache: one folder per cache, user and host, outside the cache, so that no copy overwrites it.

It lies in the user's state folder, `spools/HOST-HASH/`, where HASH is of the host's name and the cache's one URL:
`spool.json` says whose it is, `spool.sqlite` holds what was drawn and is not sealed, and the ledger, and `locks/` the
locks of running builds. It may be deleted when no build runs and `cache status` shows nothing in the spool: what was
spent before is in the cache's commits. A marker in a local cache, `local/HOST-TOKEN.json`, says which workspaces belong
to it: by it the work in progress of a cache that was moved is found again, and a copy of the cache takes nothing away
from the original.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from teacher_cache.errors import CacheError
from teacher_cache.files.atomic_files import atomic_write
from teacher_cache.files.disk import disk_errors_in_words
from teacher_cache.files.store import Store
from teacher_cache.files.user_folders import file_name, host_name, state_folder
from teacher_cache.keys import sha256

_TOKEN, _SPOOL = re.compile("[0-9a-f]{32}"), re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]*")
MARKERS = "local"  # the folder of the markers in a cache; it may be deleted, and then a moved cache adopts nothing


@dataclass(frozen=True)
class Workspace:
    """The folder of the work in progress of one cache, user and host.

    `token` names its ledger in the cache's commits and is random, `cache` is the cache's identity (see
    `Store.identity`), and `stamp` tells when that cache was made, or is empty.
    """

    folder: Path
    token: str
    cache: str
    host: str
    stamp: str

    @property
    def lock(self) -> FileLock:
        """The lock for making, adopting and mending a workspace. It is outside the folder, which may be removed."""
        return _lock(self.folder)


def find_workspace(store: Store, ledgers: Callable[[], frozenset[str]]) -> Workspace | None:
    """Return this host's workspace of a cache, or None if there is none. Nothing is written; see `open_workspace`."""
    found = _read(_folder(store))
    return found if found and _is_of(found, store, ledgers) else None


def open_workspace(store: Store, ledgers: Callable[[], frozenset[str]]) -> Workspace:
    """Return this host's workspace of a cache, and make it if necessary.

    If the one at its place belongs to another cache, which was at this URL before (and was moved or removed), that one
    is set aside under a name with its token, and a new one is made.

    Args:
        store: The store of the cache.
        ledgers: Returns the tokens of all ledgers in the cache's commits.

    Raise CacheError if the state folder can't be made or written to.
    """
    folder = _folder(store)
    with _words(), _made_lock(folder):
        found = _read(folder)
        if found and not _is_of(found, store, ledgers):
            folder.rename(folder.with_name(f"{folder.name}-{found.token[:16]}"))
            found = None
        stamp = _stamp(store)
        if found is None or (stamp and found.stamp != stamp):
            token = found.token if found else _marked_token(store, folder) or secrets.token_hex(16)
            found = Workspace(folder, token, store.identity, host_name(), stamp)
            _write(found)
    _mark(store, found)
    return found


def moved_workspaces(store: Store) -> Iterator[Workspace]:
    """Yield this host's workspaces whose cache was moved to this store.

    They have a marker in this cache, and the cache for which they were made is no longer where it was. A workspace
    whose cache still exists belongs to that one: this cache is a copy.
    """
    for marker in _markers(store):
        if marker["host"] != host_name():
            continue
        for folder in (_spools() / marker["spool"], _spools() / f"{marker['spool']}-{marker['token'][:16]}"):
            found = _read(folder)
            if found and found.token == marker["token"] and found.cache != store.identity and not _lives(found):
                yield found


def other_workspaces(store: Store, own: Workspace) -> Iterator[Workspace]:
    """Yield this user's other workspaces for the same URL: of hosts with other names, or of caches that were there."""
    for path in sorted(_spools().glob("*/spool.json")):
        found = _read(path.parent)
        if found and found.cache == store.identity and found.token != own.token:
            yield found


def lost_ledgers(store: Store, own: Workspace) -> frozenset[str]:
    """Return the tokens of workspaces that were at the place of `own` before, according to the markers in the cache,
    and are gone: neither renamed nor adopted."""
    found = {marker["token"] for marker in _markers(store) if marker["spool"] == own.folder.name}
    aside = {token for token in found if own.folder.with_name(f"{own.folder.name}-{token[:16]}").exists()}
    return frozenset(found - aside - {own.token})


def unmark(store: Store, workspace: Workspace) -> None:
    """Remove the marker of a workspace that was adopted."""
    if root := store.local_path(MARKERS):
        with contextlib.suppress(OSError):
            (root / _marker_name(workspace)).unlink(missing_ok=True)


def _spools() -> Path:
    return state_folder() / "spools"


def _folder(store: Store) -> Path:
    host = host_name()
    return _spools() / f"{file_name(host)}-{sha256(os.fsencode(host + chr(10) + store.identity))[:32]}"


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"))


@contextlib.contextmanager
def _made_lock(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        yield


@contextlib.contextmanager
def _words() -> Iterator[None]:
    try:
        with disk_errors_in_words(str(_spools())):
            yield
    except CacheError as error:
        if str(state_folder()) not in str(error):
            raise  # of the cache's store
        raise CacheError(f"{error}; set XDG_STATE_HOME to a folder for the work in progress of your builds") from error


def _read(folder: Path) -> Workspace | None:
    """Return the workspace that a folder's spool.json describes; None if it has none that is complete."""
    facts = _json(folder / "spool.json", ("token", "cache", "host", "stamp"))
    if not facts or not _TOKEN.fullmatch(facts["token"]):
        return None
    return Workspace(folder, facts["token"], facts["cache"], facts["host"], facts["stamp"])


def _write(workspace: Workspace) -> None:
    facts = {name: value for name, value in asdict(workspace).items() if name != "folder"}
    atomic_write(workspace.folder / "spool.json", json.dumps(facts, indent=1).encode())


def _json(path: Path, names: tuple[str, ...]) -> dict[str, str] | None:
    """Return an object of texts with these names; None if the file has none. A foreign file is no error."""
    try:
        facts: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(facts, dict) and all(isinstance(facts.get(name), str) for name in names):
        return facts
    return None


def _is_of(workspace: Workspace, store: Store, ledgers: Callable[[], frozenset[str]]) -> bool:
    """Return whether a workspace belongs to the cache that is now at its URL, and not to one that was there before."""
    if workspace.cache != store.identity:
        return False
    stamp = _stamp(store)
    return (
        not stamp  # the store doesn't tell
        or workspace.stamp == stamp
        or any(marker["token"] == workspace.token for marker in _markers(store))
        or workspace.token in ledgers()
    )


def _stamp(store: Store) -> str:
    """Return when a cache was made, by which it differs from one that was at its URL before; "" if nobody knows."""
    modified = store.modified("cache.json")
    return repr(modified) if modified else ""


def _lives(workspace: Workspace) -> bool:
    """Return whether the cache for which a local workspace was made is still at its path."""
    if not os.path.lexists(workspace.cache):
        return False
    store = Store(workspace.cache)
    return store.exists("cache.json") and _is_of(workspace, store, frozenset)


# Markers


def _marker_name(workspace: Workspace) -> str:
    return f"{file_name(workspace.host)}-{workspace.token[:16]}.json"


def _mark(store: Store, workspace: Workspace) -> None:
    """Write the marker into a local cache. Without the right to do so there is none, and a build is refused later."""
    root = store.local_path(MARKERS)
    if root is None or (root / _marker_name(workspace)).exists():
        return
    facts = {"host": workspace.host, "spool": workspace.folder.name, "token": workspace.token}
    with contextlib.suppress(OSError):
        atomic_write(root / _marker_name(workspace), json.dumps(facts, indent=1).encode())


def _markers(store: Store) -> Iterator[dict[str, str]]:
    """Yield the markers in a local cache. Each is checked, because a cache may come from a stranger."""
    root = store.local_path(MARKERS)
    for path in sorted(root.glob("*.json")) if root else []:
        marker = _json(path, ("host", "spool", "token"))
        if marker and _TOKEN.fullmatch(marker["token"]) and _SPOOL.fullmatch(marker["spool"]):
            yield marker


def _marked_token(store: Store, folder: Path) -> str:
    """Return the token of a workspace that has lost its spool.json; "" if no marker names it or its spool is gone."""
    if not (folder / "spool.sqlite").exists():
        return ""
    tokens = [marker["token"] for marker in _markers(store) if marker["spool"] == folder.name]
    return tokens[0] if len(tokens) == 1 else ""
