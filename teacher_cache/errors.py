"""The errors a user may see, and the exit code of each. A message says what, where, expected, found and what to do."""

from __future__ import annotations


class ArmadaError(Exception):
    """Bad usage or input: nothing was changed, and the message says what mends it."""

    exit_code = 2


class SpecError(ArmadaError):
    """A teacher's or encoder's spec that names nothing known, or an option that its kind doesn't have."""


class PromptError(ArmadaError):
    """A prompts file with a row that can't be a prompt; the message names file, row and column."""


class CacheError(ArmadaError):
    """A cache that is absent, of another format, or damaged; the message names the file."""


class NoFileError(CacheError):
    """A file of a cache that isn't there."""


class CoverageError(ArmadaError):
    """Rows without a sound feature. Raised before the first training step, with the coverage in words."""


class BudgetError(ArmadaError):
    """A cap on calls or money is reached, and what was asked for isn't whole: raised caps go on from there."""

    exit_code = 4


class MissingPackageError(ArmadaError):
    """A package that isn't installed; the message is the line that installs it, by `extra` where it belongs to one, and
    what else that takes."""

    def __init__(self, package: str, extra: str, purpose: str, takes: str = "") -> None:
        line = f"'armada-distill[{extra}]'" if extra else package
        super().__init__(f"{purpose} needs the package {package}: pip install {line}{takes and f' ({takes})'}")
