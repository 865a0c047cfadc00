"""Why pictures are missing: failures grouped by reason and message, the most frequent first, each with examples.

Messages differ in numbers, keys and quoted words, which are left out for grouping, so that one fault is one group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.night.redaction import clean

GROUPS, EXAMPLES = 12, 3
_LONGEST = 300  # characters of a message or a prompt that are shown
_MOST_KINDS = 10_000  # kinds of message that are told apart
_VARYING = (
    (re.compile(r"https?://\S+"), "URL"),
    (re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "ID"),
    (re.compile(r"\b(?=\w*\d)(?=\w*[a-zA-Z])\w{12,}\b"), "ID"),
    (re.compile(r"\"[^\"]*\"|'[^']*'(?!\w)|‘[^’]*’|“[^”]*”"), "“…”"),
    (re.compile(r"\d+(\.\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Example:
    """A prompt without a picture, and the teacher's message about it."""

    prompt: str
    message: str


@dataclass(frozen=True)
class ReasonGroup:
    """Failures with one reason and one kind of message."""

    reason: str
    kind: str  # the message without what varies
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Reasons:
    """All failures: their number by reason, and the most frequent groups."""

    counts: dict[str, int] = field(default_factory=dict)
    groups: tuple[ReasonGroup, ...] = ()
    other_groups: int = 0  # that are not shown
    other_rows: int = 0

    @property
    def rows(self) -> int:
        """The number of rows without a picture because of a failure."""
        return sum(self.counts.values())


def group_failures(rows: Iterable[tuple[str, str, str]]) -> Reasons:
    """Return failures, each (reason, message, prompt), in groups. Secrets are taken out of what is shown."""
    counts: dict[str, int] = {}
    sizes: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str], list[Example]] = {}
    for reason, message, prompt in rows:
        counts[reason] = counts.get(reason, 0) + 1
        key = reason, kind_of(message)
        if key not in sizes and len(sizes) >= _MOST_KINDS:
            key = reason, "other messages"
        sizes[key] = sizes.get(key, 0) + 1
        some = examples.setdefault(key, [])
        if len(some) < EXAMPLES:
            some.append(Example(shorten(prompt), shorten(clean(message))))
    order = sorted(sizes, key=lambda key: (-sizes[key], key))
    groups = tuple(ReasonGroup(*key, sizes[key], tuple(examples[key])) for key in order[:GROUPS])
    return Reasons(
        dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        groups,
        max(0, len(order) - GROUPS),
        sum(sizes[key] for key in order[GROUPS:]),
    )


def kind_of(message: str) -> str:
    """Return a message without what varies from row to row, at most 200 characters."""
    text = clean(message[:2000])
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return shorten(text.strip(), 200) or "no message"


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return a text that is cut off after so many characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
