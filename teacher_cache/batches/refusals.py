"""Why a provider's validation failed a batch: a full queue, lines that it does not take, or what every line would meet.

Nothing of such a batch was drawn. The lines at fault are failures of their rows, and the others are requested again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teacher_cache.batches.results import Results
from teacher_cache.batches.sending import is_full
from teacher_cache.batches.tables import Settled
from teacher_cache.teachers.http_errors import HopelessError, classify

_SAME_ERRORS = 5  # lines with one and the same error, if there are no others, are no fault of the lines


@dataclass(frozen=True)
class Refusal:
    """Whether the provider's queue was full, and why no request of this kind can succeed, or ""."""

    is_full: bool = False
    hopeless: str = ""


def settle_refused(results: Results, order: Sequence[str], facts: dict[str, Any], settled: Settled) -> Refusal:
    """Settle the requests of a failed batch whose lines are named as its errors; leave the others in
    `results.groups`. `order` are the custom ids of the file's lines."""
    errors = facts.get("errors")
    entries = errors.get("data") if isinstance(errors, dict) else errors
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    if any(is_full(str(entry.get("code") or "")) for entry in entries):
        return Refusal(is_full=True)
    free = None if results.teacher.price_usd is None else 0.0
    at_fault: dict[str, str] = {}
    for entry in entries:
        try:
            error = classify(400, {}, json.dumps({"error": entry}).encode(), results.api.now())
        except HopelessError as hopeless:
            return Refusal(hopeless=str(hopeless))
        line = entry.get("line")
        if not isinstance(line, int) or not 1 <= line <= len(order):
            return Refusal(hopeless=f"the provider refuses the batch: {error}; check the model and its options")
        at_fault[order[line - 1]] = str(error)
    if not at_fault:
        return Refusal(
            hopeless="the provider failed the batch and gave no reason; look at it in the provider's console"
        )
    if len(at_fault) == len(order) >= _SAME_ERRORS and len(set(at_fault.values())) == 1:
        return Refusal(hopeless=f"the provider refuses every request of the batch: {next(iter(at_fault.values()))}")
    for key, message in at_fault.items():
        if key in results.groups:
            results.fail(key, results.teacher.without_key(message), free, settled, reason="permanent")
    return Refusal()
