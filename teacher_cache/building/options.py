"""The options of a build besides its prompts, its teacher and its encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from teacher_cache.errors import ArmadaError
from teacher_cache.storage.pictures import SHARD_BYTES


@dataclass(frozen=True)
class BuildOptions:
    """What to build, how much to spend, and when to seal."""

    samples: int = 1  # pictures per prompt
    limit: int | None = None  # build only the first unique prompts
    max_calls: int | None = None  # of the teacher, over all builds of the cache
    budget_usd: float | None = None  # for the teacher, over all builds of the cache
    attempts: int = 5  # calls per picture in one build if they fail transiently
    shard_rows: int = 8192  # pictures per shard, at most
    shard_bytes: int = SHARD_BYTES
    seal_rows: int = 2048  # seal when so many pictures are in the spool,
    seal_seconds: float = 600.0  # or so long after the last seal: other hosts see only sealed pictures
    format: str = "parquet"  # or webdataset
    retry: Sequence[str] = ()  # reasons of earlier failures to request again
    redraw_missing: bool = False  # files that commits name and the cache lacks are gone for good: draw them again
    wait: bool = False  # for batches until they have brought everything; else the build ends and is run again
    prompts: str = ""  # where the prompts came from, for the dataset card

    def __post_init__(self) -> None:
        """Raise ArmadaError for a number that is not finite, or negative."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int | float) and not 0 <= value < math.inf:
                flag = one.name.replace("_", "-")
                raise ArmadaError(f"--{flag}: expected a finite number of at least 0, found {value}")
