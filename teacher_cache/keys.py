"""Keys: what a picture *is*. The same request has the same key on every machine, for ever.

An image key names a request: the schema, the teacher's spec, the prompt's text and the sample's number. What doesn't
change the picture (batch size, device, path, row order) is in no spec and so in no key. A feature's key is the pair of
image key and encoder digest: features lie in a folder an encoder. All digests are lower-case hexadecimal SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 1


def sha256(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted names, no spaces and no NaN: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def spec_digest(spec: Mapping[str, Any]) -> str:
    """The digest of a teacher's or encoder's spec. Compute it once a build, not once a row."""
    return sha256(canonical_json(spec))


def normalise(prompt: str) -> str:
    """A prompt's text as its teacher gets it: Unicode NFC, otherwise untouched (case and spaces count)."""
    return unicodedata.normalize("NFC", prompt)


def prompt_key(prompt: str) -> str:
    """The digest of a prompt's normalised text.

    Raises UnicodeEncodeError for lone surrogates, which no UTF-8 file can hold.
    """
    return sha256(normalise(prompt).encode("utf-8"))


def image_key(teacher_digest: str, prompt_digest: str, sample: int = 0) -> str:
    """The key of sample number `sample` of a prompt drawn by a teacher."""
    return sha256(f"armada-image/{SCHEMA_VERSION}\n{teacher_digest}\n{prompt_digest}\n{sample}".encode("ascii"))


def seed_of(image_digest: str) -> int:
    """The seed of a picture's own random generator, 0 <= seed < 2**63: batch and order don't decide a picture."""
    return int(image_digest[:16], 16) >> 1
