"""Rights: whether a build may write into a cache, found out before anything is paid for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from teacher_cache.files.store import Store


def check_writable(store: Store, folders: Iterable[str]) -> None:
    """Write a small file into each folder of a store and remove it.

    The folders are created if necessary. Raise CacheError, which names the path and the reason, if that is not
    possible. On the Hub, where the rights are those of the whole repository, one file is enough.
    """
    for folder in list(folders)[: 1 if store.hub else None]:
        probe = f"{folder}/.{secrets.token_hex(8)}.probe"
        store.write(probe, b"probe")
        store.remove(probe)
