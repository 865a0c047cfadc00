"""The file cache.json, which states the format of a cache, and the other small JSON files of a store."""

from __future__ import annotations

import json
from typing import Any

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.files.store import Store
from teacher_cache.format.commits import FORMAT, NewerFormatError
from teacher_cache.format.sources import Source
from teacher_cache.keys import canonical_json, spec_digest

CACHE_JSON = canonical_json({"format": FORMAT, "made_by": "armada"})


def check_format(store: Store) -> None:
    """Raise CacheError if the cache in a store has another format than this armada's, NoFileError if it has none."""
    found = read_json(store, "cache.json").get("format")
    if type(found) is int and found > FORMAT:
        raise NewerFormatError(
            f"{store}/cache.json: the cache has format {found}, and this armada knows {FORMAT}; update armada"
        )
    if found != FORMAT or type(found) is not int:
        raise CacheError(
            f"{store}/cache.json: expected format {FORMAT}, found {found!r}; this armada can't read the cache: build a "
            "new one in another folder"
        )


def read_source(store: Store, path: str) -> Source:
    """Return the source that a teacher.json or encoder.json describes.

    Raise CacheError if it does not describe the source of its folder, or an encoder whose features nobody can read.
    """
    facts = dict(read_json(store, path))
    spec, digest = facts.pop("spec", None), facts.pop("digest", None)
    if not isinstance(spec, dict) or not isinstance(digest, str) or _digest_of(spec) != digest:
        raise CacheError(f"{store}/{path}: the digest {digest!r} is not that of the spec; {repair_hint()}")
    source = Source(spec, digest, facts)
    if source.name != path.split("/")[-2]:
        raise CacheError(f"{store}/{path}: it describes {source.name}, which has another folder; {repair_hint()}")
    if path.endswith("/encoder.json"):
        dimension, dtype = spec.get("dimension"), spec.get("dtype")
        if type(dimension) is not int or not 0 < dimension < 1 << 24 or dtype not in ("float16", "float32"):
            raise CacheError(f"{store}/{path}: no encoder has {dimension!r} numbers of {dtype!r}; {repair_hint()}")
    return source


def _digest_of(spec: dict[str, Any]) -> str | None:
    """Return the digest of a spec; None if it has none, as one with NaN or half a character."""
    try:
        return spec_digest(spec)
    except (ValueError, RecursionError):
        return None


def read_json(store: Store, path: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raise CacheError if the file has none, NoFileError if it does not exist."""
    try:
        value = json.loads(store.read(path))
    except (ValueError, RecursionError) as error:
        raise CacheError(
            f"{store}/{path}: no readable JSON: {error}; wait until its copy is complete, or "
            + repair_hint(build_again=False)
        ) from None
    if not isinstance(value, dict):
        raise CacheError(f"{store}/{path}: expected a JSON object, found {type(value).__name__}")
    return value
