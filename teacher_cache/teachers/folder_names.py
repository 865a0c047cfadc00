"""File names and prompts: which file of a folder is the picture of a prompt.

A match depends on the prompt and the names in the folder alone, never on the other prompts. The closest kind of match
decides: the name is the prompt's key, the prompt itself, or the prompt as programs write it into file names. A name may
lack what programs leave out of names; it has nothing that the prompt lacks. Letters, digits, vowel signs and other
marks, symbols and emoji always count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from teacher_cache.keys import normalise, prompt_key

_SEPARATORS = re.compile(r"[\s_-]+")
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # that no Windows file name may have
_SIGNIFICANT = frozenset("#%&@§")  # punctuation that distinguishes words: C# is not C
_SAMPLE = re.compile(r"(.+)\.([0-9]{1,9})", re.DOTALL)


class FolderNames:
    """The files of a folder by name. `a-red-cat.2.png` is sample number 2 of `a-red-cat`, and may also be sample 0 of a
    prompt that ends in `.2`."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._exact: dict[tuple[str, int], list[Path]] = {}
        self._folded: dict[tuple[str, int], list[Path]] = {}
        for path in paths:
            stem = normalise(path.stem)
            numbered = _SAMPLE.fullmatch(stem)
            for name, sample in [(stem, 0), *([(numbered[1], int(numbered[2]))] if numbered else [])]:
                self._exact.setdefault((name, sample), []).append(path)
                self._folded.setdefault((fold(name), sample), []).append(path)

    def find(self, prompt: str, sample: int) -> tuple[Path, ...]:
        """Return the files that match a prompt's sample equally well, by the closest kind of match that any file has:
        none, the one that is its picture, or several, which are ambiguous."""
        for name in (prompt_key(prompt), normalise(prompt)):
            if found := self._exact.get((name, sample)):
                return tuple(found)
        for name in written_names(prompt):
            if found := self._folded.get((name, sample)):
                return tuple(found)
        return ()


def fold(name: str) -> str:
    """Return a name in lower case, in NFC, with a hyphen for each run of spaces, underscores and hyphens."""
    return normalise(_SEPARATORS.sub("-", normalise(name).lower()))


def written_names(prompt: str) -> Iterator[str]:
    """Yield the folded names under which programs save a prompt's picture, the closest one first.

    They replace nothing, what no file name may have, or all punctuation but `#%&@`; a hyphen at an end is left out or
    not. A name without any character but hyphens is none.
    """
    text = normalise(prompt).lower()
    allowed = _NOT_IN_NAMES.sub("-", text)
    plain = "".join("-" if _is_dropped(character) else character for character in allowed)
    names = [fold(text)]
    for version in (allowed, plain):
        names += [fold(version), fold(version).strip("-")]
    return (name for name in dict.fromkeys(names) if name.strip("-"))


def _is_dropped(character: str) -> bool:
    return unicodedata.category(character).startswith("P") and character not in _SIGNIFICANT
