"""The commands that fill the gaps of a cache, for the error that reports them.

They are complete and can be pasted into a shell: whatever a cache's files or a user's file names contain is quoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from teacher_cache import Source


@dataclass(frozen=True)
class Mending:
    """What the commands need to know: where a cache's prompts came from, and who draws and encodes them."""

    prompts: tuple[str, ...]  # the words after `armada cache build`, for example rows.csv --task glue/rte
    teacher: str
    encoder: str
    cache: str
    samples: int = 1
    note: str = ""  # a line about the prompts for the user, if any

    def commands(self, failures: Iterable[str] = ()) -> list[str]:
        """Return the commands that fill a gap, in order: a build, which requests and encodes what is missing, and a
        retry of the rows that failed for these reasons, which a build does not request again."""
        sources = ["--teacher", self.teacher, "--encoder", self.encoder]
        samples = ["--samples", str(self.samples)] if self.samples > 1 else []
        commands = [["build", *self.prompts, *sources, "--cache", self.cache, *samples]]
        if reasons := sorted(failures):
            named = [word for reason in reasons for word in ("--reason", reason)]
            commands.append(["retry", self.cache, *sources, *named])
        return [shlex.join(["armada", "cache", *words]) for words in commands]

    def advice(self, failures: Iterable[str] = (), *, may_drop: bool = False) -> str:
        """Return the end of the error about a gap: the commands, and the option that leaves the rows out if that is
        possible."""
        lines = [f"complete the cache with: {'; '.join(self.commands(failures))}"]
        if self.note:
            lines.append(self.note)
        if may_drop:
            lines.append("or leave these rows out with: --missing drop")
        return "\n".join(lines)


@dataclass(frozen=True)
class FileMending:
    """What a file of features needs, for the error about rows that have none in it."""

    path: str
    kind: str  # of its keys: prompt, prompt_key or id
    some_keys: tuple[str, ...]
    wanted: tuple[str, ...]  # some keys that are looked up
    note: str  # the command that lists the prompts

    def advice(self, *, may_drop: bool = False) -> str:
        """Return the end of the error: what the keys are compared with, and what to do."""
        lines = [
            f"{self.path}: its keys are compared with the {NAMES_OF_KEYS[self.kind]} of each row; it has, for example, "
            f"{', '.join(repr(key[:60]) for key in self.some_keys)}; a row has, for example, "
            f"{', '.join(repr(key[:60]) for key in self.wanted)}",
            "add finite features, not zero, of the rows that have none",
            *([self.note] if self.note else []),
        ]
        if may_drop:
            lines.append("or leave these rows out with: --missing drop")
        return "\n".join(lines)


NAMES_OF_KEYS = {
    "prompt": "prompt",
    "prompt_key": "digest of the prompt (prompt_key of teacher_cache)",
    "id": "id",
}


def spec_text(source: Source | None) -> str:
    """Return the spec of a teacher or an encoder as a user types it, or SPEC if its record has none to show."""
    text = str(source.facts.get("text") or "") if source else ""
    return text if text and text.isprintable() else "SPEC"
