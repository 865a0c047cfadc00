"""Sources: a cache's teachers and encoders, as it records them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from teacher_cache.errors import SpecError


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


def _check_same(source: Source, opened: Source, noun: str) -> None:
    if opened.digest != source.digest:
        raise SpecError(
            f"{source.facts.get('text')} is now another {noun} than {source.name} "
            "(another version of a package or model?); install what it was, or build with the new one"
        )
