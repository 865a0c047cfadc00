"""The prompts that a cache was built from: its texts, with how many pictures each has and how many of them failed.

Reading them opens no teacher and changes nothing.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.format.arrow import concat, one_array
from teacher_cache.storage.cache import Cache

BUILT_PROMPTS = pa.schema(
    [("text", pa.string()), ("samples", pa.int64()), ("failed", pa.int64()), ("teacher", pa.string())]
)


def built_prompts(cache: Cache) -> pa.Table:
    """Return the prompts of a cache (BUILT_PROMPTS), one row per prompt and teacher, sorted by teacher and text.

    `samples` counts a prompt's pictures, and `failed` the samples for which the teacher gave none. Raise CacheError if
    a shard is damaged.
    """
    tables = []
    for teacher in cache.teachers():
        images = cache.images(teacher, ["prompt_key", "prompt"])
        failures = cache.failures(teacher)
        failed = failures.filter(pc.invert(pc.is_in(failures["image_key"], one_array(images["image_key"]))))
        parts = [_ones(images, samples=1, failed=0), _ones(failed, samples=0, failed=1)]
        grouped = concat(parts, parts[0].schema).group_by("prompt_key")
        counted = grouped.aggregate([("prompt", "min"), ("samples", "sum"), ("failed", "sum")])
        columns = [counted[name] for name in ("prompt_min", "samples_sum", "failed_sum")]
        names = pa.repeat(pa.scalar(teacher.name), counted.num_rows)
        tables.append(pa.table([*columns, names], schema=BUILT_PROMPTS))
    return concat(tables, BUILT_PROMPTS).sort_by([("teacher", "ascending"), ("text", "ascending")])


def _ones(table: pa.Table, **counts: int) -> pa.Table:
    """Return the prompts of a table, with the same counts in each row."""
    columns = {name: pa.repeat(pa.scalar(number, pa.int64()), table.num_rows) for name, number in counts.items()}
    return pa.table({"prompt_key": table["prompt_key"], "prompt": table["prompt"], **columns})
