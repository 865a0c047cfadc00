"""Sources: a cache's teachers and encoders, as it records them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from teacher_cache.encoders import Encoder, open_encoder
from teacher_cache.errors import SpecError
from teacher_cache.keys import spec_digest
from teacher_cache.teachers import Teacher, open_teacher


@dataclass(frozen=True)
class Source:
    """A teacher or an encoder: its spec, the spec's digest, and facts that change no key (licence, price, and `text`,
    by which it is opened again)."""

    spec: Mapping[str, Any]
    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`kind-digest`, as its folder is called."""
        kind = re.sub(r"[^a-z0-9]+", "-", str(self.spec.get("kind", "custom")).lower()).strip("-")
        return f"{kind}-{self.digest[:16]}"


def teacher_source(teacher: Teacher) -> Source:
    """A teacher as the cache records it."""
    facts = {
        "licence": teacher.licence,
        "price_usd": teacher.price_usd,
        "deterministic": getattr(teacher, "deterministic", False),
        "text": getattr(teacher, "text", ""),
    }
    return Source(teacher.spec, spec_digest(teacher.spec), facts)


def encoder_source(encoder: Encoder) -> Source:
    """An encoder as the cache records it; its spec holds the stored number type too."""
    spec = {**encoder.spec, "dimension": encoder.dimension, "dtype": dtype_of(encoder)}
    return Source(spec, spec_digest(spec), {"text": getattr(encoder, "text", "")})


def dtype_of(encoder: Encoder) -> str:
    """float16, or float32 where the encoder's spec said `?dtype=float32`."""
    return str(getattr(encoder, "dtype", "float16"))


def same_teacher(source: Source) -> Teacher:
    """The teacher of a source, opened again by its text. Raises SpecError where that names another one by now."""
    opened = open_teacher(str(source.facts.get("text")))
    _check_same(source, teacher_source(opened), "teacher")
    return opened


def same_encoder(source: Source) -> Encoder:
    """The encoder of a source, opened again by its text. Raises SpecError where that names another one by now."""
    opened = open_encoder(str(source.facts.get("text")))
    _check_same(source, encoder_source(opened), "encoder")
    return opened


def _check_same(source: Source, opened: Source, noun: str) -> None:
    if opened.digest != source.digest:
        raise SpecError(
            f"{source.facts.get('text')} is now another {noun} than {source.name} "
            "(another version of a package or model?); install what it was, or build with the new one"
        )
