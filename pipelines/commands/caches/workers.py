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

Ray = Annotated[
    Optional[str],
    typer.Option(
        "--ray", metavar="ADDRESS", help="With --workers: as actors of the Ray cluster at HOST:PORT, or auto."
    ),
]
RayOptions = Annotated[
    Optional[str],
    typer.Option(
        "--ray-options", metavar="K=V,...", help="What each actor takes of its machine: num_gpus=1,num_cpus=2."
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
    ray: str | None,
    ray_options: str | None,
    concurrency: int | None,
    stop: Callable[[], bool],
) -> BuildReport:
    """Build requested pictures, by several workers if the user asked for them. `specs` are those of the adapters."""
    from teacher_cache import (
        ArmadaError,
        Crew,
        LocalCrew,
        RayCrew,
        build_by_workers,
        build_requests,
        ray_options as read_options,
        sends_batches,
    )

    if ray_options is not None and ray is None:
        raise ArmadaError("--ray-options: expected --ray ADDRESS beside it")
    if workers is None:
        if ray is not None:
            raise ArmadaError("--ray: expected --workers N beside it, the number of actors")
        return build_requests(cache, requests, *adapters, options, stop=stop)
    if sends_batches(adapters[0]):
        raise ArmadaError(f"--workers: the teacher {specs[0]} sends batches, which one process does; leave it out")
    crew: Crew = LocalCrew(workers) if ray is None else RayCrew(ray, workers, read_options(ray_options or ""))
    return build_by_workers(cache, requests, *adapters, options, crew, specs=specs, concurrency=concurrency, stop=stop)
