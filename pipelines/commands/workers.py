"""The options of a build by several workers, and the build itself: by one process, or by several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from teacher_cache import BuildOptions, BuildReport, Cache, Encoder, Requests, Teacher

Workers = Annotated[
    Optional[int],
    typer.Option(
        "--workers", min=1, help="Build by so many processes of this machine, each on a GPU of its own if any."
    ),
]


def build_as_asked(
    cache: Cache,
    requests: Requests,
    adapters: tuple[Teacher, Encoder],
    options: BuildOptions,
    specs: tuple[str, str],
    *,
    workers: int | None,
    concurrency: int | None,
    stop: Callable[[], bool],
) -> BuildReport:
    """Build requested pictures, by several workers if the user asked for them. `specs` are those of the adapters."""
    from teacher_cache import LocalCrew, build_by_workers, build_requests

    if workers is None:
        return build_requests(cache, requests, *adapters, options, stop=stop)
    return build_by_workers(
        cache, requests, *adapters, options, LocalCrew(workers), specs=specs, concurrency=concurrency, stop=stop
    )
