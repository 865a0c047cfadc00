"""Retry: the failures of chosen reasons are asked again, by the teacher that the cache names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.builder import BuildReport, build_asked
from teacher_cache.cache import Cache
from teacher_cache.columns import one_array
from teacher_cache.drawing import BuildOptions
from teacher_cache.encoders import open_encoder
from teacher_cache.errors import ArmadaError
from teacher_cache.plan import ASKED
from teacher_cache.sources import Source, teacher_source
from teacher_cache.teachers import REASONS, Teacher, open_teacher


def retry(
    cache: Cache,
    reasons: Sequence[str],
    *,
    max_calls: int | None = None,
    budget_usd: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[BuildReport]:
    """Ask again for failures with one of these reasons, and encode what comes; a report a teacher and encoder.

    Raises ArmadaError for an unknown reason, or where the teacher here isn't the one that the cache names.
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
        for encoder in cache.encoders(teacher) if asked.num_rows else []:
            opened = _same_teacher(cache, teacher)
            reader = open_encoder(str(encoder.facts.get("text")))
            reports.append(build_asked(cache, asked, asked.num_rows, opened, reader, options, stop=stop))
    return reports


def _same_teacher(cache: Cache, teacher: Source) -> Teacher:
    opened = open_teacher(str(teacher.facts.get("text")))
    if teacher_source(opened).digest != teacher.digest:
        raise ArmadaError(
            f"{cache.store}: {teacher.facts.get('text')} is now another teacher than {teacher.name} "
            "(another version of a package or model?); install what it was, or build with the new one"
        )
    return opened
