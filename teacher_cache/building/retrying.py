"""Retry: request failed pictures again, each once, from the teacher that the user names.

What a cache's files say of a teacher is shown to the user and never opened: it may be a stranger's, and choose a
server, a module or the variable that holds a key.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.building.builder import BuildReport, build_requests
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.requests import Requests
from teacher_cache.encoders import Encoder
from teacher_cache.errors import ArmadaError, not_one_of
from teacher_cache.format.arrow import one_array
from teacher_cache.format.digests import from_hex
from teacher_cache.format.sources import Source, spec_to_type
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import picture_index
from teacher_cache.teachers import REASONS, Teacher, source_of_teacher


def retry(
    cache: Cache,
    teacher: Teacher,
    encoder: Encoder,
    reasons: Sequence[str] = ("transient",),
    *,
    max_calls: int | None = None,
    budget_usd: float | None = None,
    wait: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> BuildReport | None:
    """Request again, once each, the teacher's pictures that failed for one of these reasons, and encode them.

    Features for other encoders are computed by a build with them, without a call. Returns None if there is nothing to
    retry. Raises ArmadaError if a reason is unknown, or if only other teachers have failed in this cache.
    """
    source = source_of_teacher(teacher)
    requests = failed_requests(cache, source, reasons)
    if not len(requests):
        others = [other for other in cache.teachers() if len(failed_requests(cache, other, reasons))]
        if others:
            raise ArmadaError(
                f"{cache.store}: no picture of {source.name} failed for these reasons, but pictures of "
                f"{', '.join(other.name for other in others)}; {retry_command(cache, others[0])}"
            )
        return None
    options = BuildOptions(max_calls=max_calls, budget_usd=budget_usd, retry=tuple(reasons), wait=wait, prompts="retry")
    return build_requests(cache, requests, teacher, encoder, options, stop=stop)


def failed_requests(cache: Cache, teacher: Source, reasons: Sequence[str]) -> Requests:
    """Return a teacher's pictures that failed for one of these reasons. Raises ArmadaError if a reason is unknown."""
    unknown = sorted(set(reasons) - set(REASONS))
    if unknown:
        raise ArmadaError(f"--reason: {not_one_of(REASONS, unknown[0])}")
    failures = cache.failures(teacher)
    failures = failures.filter(pc.is_in(failures["reason"], pa.array(list(reasons), pa.string())))
    keys = from_hex(failures["image_key"], f"the failures of {cache.store}")
    failed = picture_index(cache, teacher).find(keys) < 0
    failures = failures.filter(pa.array(failed))
    return Requests(
        rows=failures.num_rows,
        unique_prompts=len(pc.unique(failures["prompt_key"])),
        keys=keys[failed],
        prompts=one_array(failures["prompt"].cast(pa.large_string())),
        samples=np.asarray(failures["sample"], np.int32),
    )


def check_named(cache: Cache, reasons: Sequence[str]) -> None:
    """Raise ArmadaError, with the command to use, if pictures failed for one of these reasons: the user has to name
    their teacher and an encoder."""
    for teacher in cache.teachers():
        if len(failed_requests(cache, teacher, reasons)):
            raise ArmadaError(f"{cache.store}: name the teacher and the encoder; {retry_command(cache, teacher)}")


def retry_command(cache: Cache, teacher: Source) -> str:
    """Return the command that retries a teacher's failures, with the specs that the cache records."""
    encoders = [spec_to_type(encoder) for encoder in cache.encoders(teacher)] or ["SPEC"]
    return (
        "the cache's own files say, and only you can judge: armada cache retry "
        f"{shlex.quote(str(cache.store))} --teacher {spec_to_type(teacher)} --encoder {encoders[0]}"
    )
