"""The errors that a user may see, their exit codes, and the commands that their messages recommend.

A message states where the error is, what is wrong, what was expected, what was found, and which command mends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ArmadaError(Exception):
    """Wrong usage or input. Nothing was changed, and the message states how to correct it."""

    exit_code = 2


class SpecError(ArmadaError):
    """The spec of a teacher or an encoder has an unknown kind, or an option that its kind does not have."""


class NotBuiltError(SpecError):
    """A cache has no features of a teacher or an encoder: the build has not run yet."""


class PromptError(ArmadaError):
    """A prompts file has a row that can't be a prompt. The message names the file, the row and the column."""


class PictureError(ArmadaError):
    """Bytes have no usable pixels: an unknown format, damage, or more pixels than are decoded."""


class CacheError(ArmadaError):
    """A cache is absent, damaged or of another format. The message names the file."""


class NoFileError(CacheError):
    """A file of a cache does not exist."""


class NoCacheError(CacheError):
    """There is no cache at a folder or URL."""


class CoverageError(ArmadaError):
    """Rows have no sound feature. It is raised before the first training step, with a coverage report."""


class BudgetError(ArmadaError):
    """A cap on calls or on cost was reached before the build was complete. Higher caps continue it."""

    exit_code = 4


class MissingPackageError(ArmadaError):
    """A package is not installed. The message contains the command that installs it.

    Args:
        package: The distribution's name.
        extra: The extra of armada-distill that brings the package, or "" if none does.
        purpose: What needs the package: the subject of the message's sentence.
        takes: What the installation needs besides, in words, for example a C compiler.
    """

    def __init__(self, package: str, extra: str, purpose: str, takes: str = "") -> None:
        requirement = f"'armada-distill[{extra}]'" if extra else package
        also = f" ({takes})" if takes else ""
        super().__init__(f"{purpose} needs the package {package}: pip install {requirement}{also}")


def repair_hint(*, build_again: bool = True) -> str:
    """Return the advice that ends the message about a damaged file: repair the cache and, by default, build again."""
    repair = 'run "armada cache verify --repair"'
    return f"{repair} and the build again, which fills the gap" if build_again else repair


def missing_file(path: str) -> NoFileError:
    """Return the error for a file of a cache that does not exist; `path` is the file as messages show it."""
    return NoFileError(f"{path}: no such file; run the build again to fill the gap")


def not_one_of(known: Iterable[str], found: str) -> str:
    """Return the end of the message about a word that is none of the known ones, with the nearest one."""
    words = list(known)
    return f"expected one of {', '.join(words)}, found {found!r}{did_you_mean(found, words)}"


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return the end of the message about an unknown name: "; did you mean NAME?", or "" if no known name is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(found.lower(), names, 1, 0.6)
    return f"; did you mean {names[near[0]]}?" if near else ""
