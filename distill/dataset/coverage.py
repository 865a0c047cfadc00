"""Coverage: how many training rows have a sound feature, and examples of those that have none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coverage:
    """How many of a split's rows have a sound feature."""

    rows: int
    found: int
    missing: int
    broken: int  # features that are NaN, infinite or zero
    examples: tuple[str, ...]  # some prompts without a sound feature
    failures: dict[str, int]  # the number of missing rows by the recorded reason
    duplicates: int = 0  # rows that share a feature with an earlier row
    samples: int = 1  # pictures that are needed per row

    @property
    def is_full(self) -> bool:
        """True if every row has a sound feature."""
        return self.found == self.rows

    def in_words(self) -> str:
        """Return the report as a few lines of text."""
        feature = "a feature" if self.samples == 1 else f"features of {self.samples} pictures"
        lines = [f"coverage: {self.found} of {self.rows} training rows have {feature}"]
        if self.missing:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.failures.items()))
            lines.append(f"  missing: {self.missing}" + (f" (the teacher failed: {reasons})" if reasons else ""))
        if self.broken:
            lines.append(f"  not finite or zero: {self.broken}")
        if self.duplicates:
            lines.append(f"  sharing a feature with an earlier row: {self.duplicates}")
        lines += [f"  for example: {prompt[:90]!r}" for prompt in self.examples]
        return "\n".join(lines)
