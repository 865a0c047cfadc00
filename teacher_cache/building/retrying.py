"""Retry: request failed pictures again, from the teachers that the cache records."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.building.builder import BuildReport, build_requests
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.plan import REQUEST_COLUMNS
from teacher_cache.encoders import same_encoder
from teacher_cache.errors import ArmadaError
from teacher_cache.format.arrow import one_array
from teacher_cache.storage.cache import Cache
from teacher_cache.teachers import REASONS, same_teacher


def retry(
    cache: Cache,
    reasons: Sequence[str],
    *,
    max_calls: int | None = None,
    budget_usd: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[BuildReport]:
    """Request again the pictures that failed for one of these reasons, and encode them.

    Returns one report per teacher and encoder. Raises ArmadaError if a reason is unknown, or if the installed teacher
    or encoder is no longer the one that the cache records.
    """
    unknown = sorted(set(reasons) - set(REASONS))
    if unknown:
        raise ArmadaError(f"--reason: expected one of {', '.join(REASONS)}, found {unknown[0]!r}")
    options = BuildOptions(max_calls=max_calls, budget_usd=budget_usd, retry=tuple(reasons), prompts="retry")
    reports = []
    for teacher in cache.teachers():
        failures = cache.failures(teacher)
        drawn = one_array(cache.images(teacher, [])["image_key"])
        chosen = pc.and_(
            pc.is_in(failures["reason"], pa.array(list(reasons), pa.string())),
            pc.invert(pc.is_in(failures["image_key"], drawn)),
        )
        requests = failures.filter(chosen).select(REQUEST_COLUMNS.names)
        if requests.num_rows:
            opened = same_teacher(teacher)
            for encoder in cache.encoders(teacher):
                reopened = same_encoder(encoder)
                reports.append(build_requests(cache, requests, requests.num_rows, opened, reopened, options, stop=stop))
    return reports
