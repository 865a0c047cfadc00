"""Sources: the teachers and encoders of a cache, as it records them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from teacher_cache.errors import SpecError


@dataclass(frozen=True)
class Source:
    """A teacher or an encoder: its spec, the spec's digest, and facts that change no key.

    Facts are the licence, the price, whether it is deterministic, and `text`: the spec that opens it again.
    """

    spec: Mapping[str, Any]
    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its folder: `kind-digest`, with the first 16 digits of the digest."""
        kind = re.sub(r"[^a-z0-9]+", "-", str(self.spec.get("kind", "custom")).lower()).strip("-")
        return f"{kind}-{self.digest[:16]}"


def check_same(source: Source, opened: Source, noun: str) -> None:
    """Raise SpecError if `opened` is not the recorded `source`; `noun` is "teacher" or "encoder"."""
    if opened.digest != source.digest:
        raise SpecError(
            f"{source.facts.get('text')} is now another {noun} than {source.name} "
            "(another version of a package or model?); install the former version, or build with the new one"
        )
