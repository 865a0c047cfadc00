"""Keys: the identity of a picture. The same request has the same key on every machine, for ever.

An image key identifies a request: the schema's version, the teacher's spec, the prompt's text and the sample's number.
Settings that do not change the picture (batch size, device, path, row order) are in no spec and therefore in no key. A
feature is identified by its image key and its encoder's digest: each encoder has its own folder of features. All
digests are SHA-256 in lower-case hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

SCHEMA_VERSION = 1


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return a value as UTF-8 JSON with sorted names and no spaces: equal values give equal bytes.

    Raise ValueError if the value contains NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Return the digest of a teacher's or an encoder's spec. Compute it once per build, not once per row."""
    return sha256(canonical_json(spec))


def normalise(prompt: str) -> str:
    """Return a prompt's text as the teacher receives it: in Unicode NFC, with case and spaces unchanged."""
    return unicodedata.normalize("NFC", prompt)


def prompt_key(prompt: str) -> str:
    """Return the digest of a prompt's normalised text.

    Raise UnicodeEncodeError if the text has a lone surrogate, which UTF-8 can't encode.
    """
    return sha256(normalise(prompt).encode("utf-8"))


def image_key(teacher_digest: str, prompt_digest: str, sample: int = 0) -> str:
    """Return the key of a picture: sample number `sample` (from 0) of a prompt, drawn by a teacher."""
    return sha256(f"armada-image/{SCHEMA_VERSION}\n{teacher_digest}\n{prompt_digest}\n{sample}".encode("ascii"))


def rewrite_key(rewriter_digest: str, prompt_digest: str) -> str:
    """Return the key of a rewritten prompt: what a rewriter makes of a prompt's text, for all teachers that draw it."""
    return sha256(f"armada-rewrite/{SCHEMA_VERSION}\n{rewriter_digest}\n{prompt_digest}".encode("ascii"))


def seed_of(image_digest: str) -> int:
    """Return the seed of a picture's own random generator, 0 <= seed < 2**63.

    It depends on the image key alone, so that a picture does not depend on its batch or on the order of requests.
    """
    return int(image_digest[:16], 16) >> 1
