"""What a verification found: the files that were checked, and those with a fault."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """A file with a fault; `mended` states what the repair did.

    `kind` is "damaged", "missing", "orphan" (no commit names it), "refused" (it is no commit of a cache, or names what
    it may not), "newer" (of a newer format) or "link" (it leads out of the cache).
    """

    path: str
    kind: str
    message: str
    mended: str = ""


@dataclass
class Verified:
    """How many commits, shards and bytes were checked, and the problems that were found."""

    commits: int = 0
    shards: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, kind: str, message: str, mended: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(path, kind, message, mended))
