"""The prompts that a cache was built from: its texts, with how many pictures each has and how many of them failed, and
what was drawn in a text's place if the teacher has a recipe.

Reading them opens no teacher and changes nothing.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.format.arrow import concat, one_array
from teacher_cache.format.columns import DRAWN_PROMPT
from teacher_cache.format.recipes import Recipe, recipe_of
from teacher_cache.rewriting.rows import rewrite_table
from teacher_cache.storage.cache import Cache

BUILT_PROMPTS = pa.schema(
    [("text", pa.string()), ("samples", pa.int64()), ("failed", pa.int64()), ("teacher", pa.string())]
)


def built_prompts(cache: Cache) -> pa.Table:
    """Return the prompts of a cache (BUILT_PROMPTS), one row per prompt and teacher, sorted by teacher and text.

    `samples` counts a prompt's pictures, and `failed` the samples for which the teacher gave none. If a teacher has a
    recipe, there is also `drawn_prompt`: what was drawn for the text (of pictures by different rewrites the first in
    the alphabet), or would have been; "" if it was never rewritten. Raise CacheError if a shard is damaged.
    """
    teachers = cache.teachers()
    recipes = {teacher.name: recipe for teacher in teachers if (recipe := recipe_of(teacher))}
    schema = BUILT_PROMPTS.append(DRAWN_PROMPT) if recipes else BUILT_PROMPTS
    tables = []
    for teacher in teachers:
        images = cache.images(teacher, ["prompt_key", "prompt", DRAWN_PROMPT.name])
        failures = cache.failures(teacher)
        failed = failures.filter(pc.invert(pc.is_in(failures["image_key"], one_array(images["image_key"]))))
        failed = failed.append_column(DRAWN_PROMPT, pa.nulls(failed.num_rows, pa.string()))
        parts = [_ones(images, samples=1, failed=0), _ones(failed, samples=0, failed=1)]
        grouped = concat(parts, parts[0].schema).group_by("prompt_key")
        sums = [("prompt", "min"), ("samples", "sum"), ("failed", "sum"), (DRAWN_PROMPT.name, "min")]
        counted = grouped.aggregate(sums)
        columns = [counted[name] for name in ("prompt_min", "samples_sum", "failed_sum")]
        columns.append(pa.repeat(pa.scalar(teacher.name), counted.num_rows))
        if recipes:
            columns.append(_drawn(cache, recipes.get(teacher.name, Recipe()), counted))
        tables.append(pa.table(columns, schema=schema))
    return concat(tables, schema).sort_by([("teacher", "ascending"), ("text", "ascending")])


def _drawn(cache: Cache, recipe: Recipe, counted: pa.Table) -> pa.Array:
    """Return the drawn prompt of each text: that of its picture, or what the recipe makes of a text without one."""
    drawn = one_array(counted[f"{DRAWN_PROMPT.name}_min"]).to_pylist()
    places = [place for place, prompt in enumerate(drawn) if not prompt]
    texts = counted["prompt_min"].take(pa.array(places, pa.int64())).to_pylist()
    if recipe.rewriter:
        keys = counted["prompt_key"].take(pa.array(places, pa.int64())).to_pylist()
        texts = rewrite_table(cache, recipe.rewriter).find(keys)
    for place, text in zip(places, texts, strict=True):
        drawn[place] = "" if text is None else recipe.drawn(text)
    return pa.array(drawn, pa.string())


def _ones(table: pa.Table, **counts: int) -> pa.Table:
    """Return the prompts of a table, with the same counts in each row."""
    columns = {name: pa.repeat(pa.scalar(number, pa.int64()), table.num_rows) for name, number in counts.items()}
    texts = {name: table[name] for name in ("prompt_key", "prompt", DRAWN_PROMPT.name)}
    return pa.table({**texts, **columns})
