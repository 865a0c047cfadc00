"""The dataset card of a cache: README.md in the format of the Hugging Face hub, generated from the cache's content."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
import yaml

from teacher_cache.errors import NoFileError
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.viewer_configs import picture_configs, root_configs

_HEAD_BYTES = 1 << 16
_MEASURED_SHARDS = 8


def write_card(cache: Cache) -> None:
    """Write README.md into the cache's root folder and those of its teachers, in place of older ones."""
    with cache.store.together():
        for teacher in cache.teachers():
            if configs := picture_configs(cache, teacher):
                text = f"{_front_matter(configs)}\n# Pictures of {teacher.name}\n\nWritten by armada.\n"
                cache.store.write(f"images/{teacher.name}/README.md", text.encode("utf-8"))
        cache.store.write("README.md", card_text(cache).encode("utf-8"))


def card_text(cache: Cache, viewer: str | list[str] = "") -> str:
    """Return the card: Markdown with YAML front matter.

    It states the teachers, encoders, licences, numbers of rows, cost, dates and sources of the prompts. `viewer`
    are the files, or their pattern, with the pictures as Parquet for the Hub's viewer, if there are any.
    """
    commits = cache.commits()
    dates = sorted(commit.at for commit in commits)
    sources = sorted({commit.prompts for commit in commits if commit.prompts})
    sections = [_teacher_section(cache, teacher) for teacher in cache.teachers()]
    licences = sorted({str(teacher.facts.get("licence", "")) for teacher in cache.teachers()} - {""})
    front: dict[str, Any] = {
        "license": "other",
        "license_name": "; ".join(licences) or "unknown",
        "tags": ["armada", "synthetic-images", "image-embeddings"],
        **root_configs(cache, viewer),
        "armada_commits": len(commits),  # a copy that has fewer is not complete
    }
    facts = [
        f"- Built from {dates[0]} to {dates[-1]}" if dates else "- Nothing committed yet",
        f"- Prompts from: {', '.join(sources) or 'unnamed sources'}",
    ]
    title = [
        "# A cache of teacher pictures",
        "",
        "Written by armada. The key of a row identifies the request that was sent to the teacher.",
    ]
    return "\n".join([_front_matter(front), *title, "", *facts, "", *sections])


def _front_matter(facts: dict[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).rstrip()}\n---"


def commits_on_card(cache: Cache) -> int:
    """Return how many commits the cache had when its card was written; 0 if it has no card that states it."""
    try:
        head = cache.store.read_range("README.md", 0, _HEAD_BYTES)
    except NoFileError:
        return 0
    found = re.search(rb"^armada_commits: ([0-9]{1,12})$", head, re.MULTILINE)
    return int(found[1]) if found else 0


def _teacher_section(cache: Cache, teacher: Source) -> str:
    images = cache.images(teacher, ["cost_usd"])
    cost = pc.sum(images["cost_usd"]).as_py()
    lines = [
        f"## Teacher {teacher.name}",
        "",
        f"- Licence and terms: {teacher.facts.get('licence') or 'unknown'}",
        f"- Pictures: {images.num_rows}; paid for them: {'nothing recorded' if cost is None else f'{cost:.2f} USD'}",
        f"- Parameters: `{dict(teacher.spec)}`",
    ]
    for encoder in cache.encoders(teacher):
        lines += [
            "",
            f"### Encoder {encoder.name}",
            "",
            f"- {encoder.spec.get('dimension')} numbers per feature, {encoder.spec.get('dtype')}; "
            f"largest rounding error {largest_rounding_error(cache, teacher, encoder)} of a feature's largest number "
            f"in the first {_MEASURED_SHARDS} shards",
            f"- Parameters: `{dict(encoder.spec)}`",
        ]
    return "\n".join([*lines, ""])


def largest_rounding_error(cache: Cache, teacher: Source, encoder: Source) -> str:
    """Return the largest relative rounding error that the feature shards recorded, as text.

    It is relative to a feature's largest number; "unmeasured" if no shard recorded one. Only the first shards are
    read, so that the number of requests does not grow with the cache.
    """
    found = []
    for shard in cache.shards(f"features/{teacher.name}/{encoder.name}/shards/")[:_MEASURED_SHARDS]:
        with (
            contextlib.suppress(NoFileError, pa.ArrowException, ValueError, OSError),
            cache.store.open(shard.path) as stream,
        ):
            metadata = parquet.read_schema(stream).metadata or {}
            if text := metadata.get(b"armada.max_rounding_error"):
                found.append(float(text))
    return f"{max(found):.1e}" if found else "unmeasured"
