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


def spec_text(source: Source | None) -> str:
    """Return the spec of a teacher or an encoder as a user types it, or SPEC if its record has none to show."""
    text = str(source.facts.get("text") or "") if source else ""
    return text if text and text.isprintable() else "SPEC"
