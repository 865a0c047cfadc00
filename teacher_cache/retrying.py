"""Retry: the failures of chosen reasons are asked again, by the teacher that the cache names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.builder import BuildReport, build_asked
from teacher_cache.cache import Cache
from teacher_cache.columns import one_array
from teacher_cache.errors import ArmadaError
from teacher_cache.options import BuildOptions
from teacher_cache.plan import ASKED
from teacher_cache.sources import same_encoder, same_teacher
from teacher_cache.teachers import REASONS


def retry(
    cache: Cache,
    reasons: Sequence[str],
    *,
    max_calls: int | None = None,
    budget_usd: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[BuildReport]:
    """Ask again for failures with one of these reasons, and encode what comes; a report a teacher and encoder.

    Raises ArmadaError for an unknown reason, or where the teacher or encoder here isn't the one that the cache names.
    """
    unknown = sorted(set(reasons) - set(REASONS))
    if unknown:
        raise ArmadaError(f"--reason: expected one of {', '.join(REASONS)}, found {unknown[0]!r}")
    options = BuildOptions(max_calls=max_calls, budget_usd=budget_usd, retry=tuple(reasons), prompts="retry")
    reports = []
    for teacher in cache.teachers():
        failures = cache.failures(teacher)
        there = one_array(cache.images(teacher, [])["image_key"])
        chosen = pc.and_(
            pc.is_in(failures["reason"], pa.array(list(reasons), pa.string())),
            pc.invert(pc.is_in(failures["image_key"], there)),
        )
        asked = failures.filter(chosen).select(ASKED.names)
        if asked.num_rows:
            opened = same_teacher(teacher)
            for encoder in cache.encoders(teacher):
                reader = same_encoder(encoder)
                reports.append(build_asked(cache, asked, asked.num_rows, opened, reader, options, stop=stop))
    return reports
