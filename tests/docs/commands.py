"""The code blocks of README.md, CONTRIBUTING.md, docs/ and examples/, the commands in them, and the list of those that
no test runs from the page: tests/docs/not_run.txt."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "docs" / "not_run.txt"
GENERATED = ("command-line.md", "train-options.md", "errors.md", "python-api.md")
_NAMES = ("README.md", "CONTRIBUTING.md", "examples/README.md")
PAGES = [
    *_NAMES,
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED),
]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A code block: the page's path in the repository, the language, and the code."""

    page: str
    language: str
    code: str


class NotRun(NamedTuple):
    """A line of the list: a page, a pattern (as of a shell) of a command or a block's first line, and why."""

    page: str
    pattern: str
    reason: str

    def fits(self, page: str, line: str) -> bool:
        return page == self.page and fnmatchcase(line, self.pattern)


def blocks_of(page: str) -> list[Block]:
    """Return the code blocks of a page in their order."""
    return [Block(page, *found) for found in _BLOCK.findall((ROOT / page).read_text("utf-8"))]


def lines_of(code: str) -> list[str]:
    """Return the commands of a bash block, one line each, without comments."""
    lines = re.sub(r"\\\n\s*", "", code).splitlines()
    return [" ".join(map(_quoted, words)) for line in lines if (words := shlex.split(line, comments=True))]


def _quoted(word: str) -> str:
    return word if word in (">", "&&", ";") else shlex.quote(word)


def runnable(page: str) -> list[tuple[str, str]]:
    """Return (language, code) of what a page says, in its order: a bash command, or a block of Python or YAML."""
    found = []
    for block in blocks_of(page):
        lines = lines_of(block.code) if block.language == "bash" else [block.code]
        found += [(block.language, line) for line in lines]
    return found


def heading_of(code: str) -> str:
    """Return what the list names a piece of code by: its first line."""
    return code.splitlines()[0]


def read_list() -> list[NotRun]:
    """Return the lines `page | pattern | reason` of the list."""
    entries = []
    for line in LIST.read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            page, pattern, reason = (part.strip() for part in line.split(" | "))
            entries.append(NotRun(page, pattern, reason))
    return entries


def why_not(page: str, code: str, entries: list[NotRun]) -> NotRun | None:
    """Return the entry by which a piece of code is not run, or None."""
    return next((entry for entry in entries if entry.fits(page, heading_of(code))), None)
