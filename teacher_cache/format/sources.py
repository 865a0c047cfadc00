"""Sources: the teachers and encoders of a cache, as it records them.

A record describes; nothing is opened by it: a cache may be a stranger's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Source:
    """A teacher or an encoder: its spec, the spec's digest, and facts that change no key.

    Facts are the licence, the price, whether it is deterministic, and `text`: the spec that its user typed.
    """

    spec: Mapping[str, Any]
    digest: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its folder: `kind-digest`, with the first 16 digits of the digest."""
        kind = re.sub(r"[^a-z0-9]+", "-", str(self.spec.get("kind", "custom")).lower()).strip("-")
        return f"{kind}-{self.digest[:16]}"


def spec_to_type(source: Source) -> str:
    """Return the spec of a source as a user types it into a shell: one word without control characters, or SPEC if the
    cache does not record it."""
    text = "".join(c for c in str(source.facts.get("text") or "") if c.isprintable())[:500]
    return shlex.quote(text) if text else "SPEC"
