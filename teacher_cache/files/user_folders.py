"""Where armada keeps this user's files on this host, outside any cache: state, and data that can be computed again.

State (`state_folder`) must not be deleted while a build has unsealed pictures.
Derived data (`user_folder`) may be deleted at any time.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from teacher_cache.errors import CacheError
from teacher_cache.keys import sha256

HOST_VARIABLE = "ARMADA_HOST"


def host_name() -> str:
    """Return the name of this host: $ARMADA_HOST, or the host's own name.

    Set ARMADA_HOST where each start gets a random host name (containers) and the state folder is kept: work in progress
    belongs to a host's name.
    """
    return os.environ.get(HOST_VARIABLE) or socket.gethostname() or "host"


def file_name(text: str) -> str:
    """Return a text as a part of a file's name: at most 40 letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".")[:40] or "host"


def state_folder() -> Path:
    """Return armada's folder for state: $XDG_STATE_HOME/armada or ~/.local/state/armada. It may not exist."""
    return _home("XDG_STATE_HOME", ".local/state") / "armada"


def user_folder() -> Path:
    """Return armada's folder in the user's cache home: $XDG_CACHE_HOME/armada or ~/.cache/armada. It may not exist."""
    return _home("XDG_CACHE_HOME", ".cache") / "armada"


def derived_folder(identity: str) -> Path:
    """Return the folder for data computed from a cache, which is named by the digest of `Store.identity`."""
    return user_folder() / "caches" / sha256(os.fsencode(identity))[:32]


def _home(variable: str, default: str) -> Path:
    found = os.environ.get(variable)
    if found:
        return Path(found)
    try:
        return Path.home() / default
    except RuntimeError as error:
        raise CacheError(
            f"this user has no home folder ({error}); set HOME or {variable} to a folder of yours"
        ) from None
