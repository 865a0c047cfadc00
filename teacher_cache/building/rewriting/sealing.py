"""Sealing of rewritten prompts: from the spool into committed shards, before a picture is drawn from any of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from teacher_cache.building.options import BuildOptions
from teacher_cache.building.sealing import batches, seal_failures
from teacher_cache.errors import CacheError
from teacher_cache.format.columns import REWRITE_COLUMNS
from teacher_cache.format.digests import from_hex
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.rewriting.rows import commit_rewrites, rewrite_index
from teacher_cache.spool.rows import SpoolRow
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache


def seal_rewrites(
    cache: Cache, spool: Spool, rewriter: Source, options: BuildOptions, provenance: Provenance, *, again: bool = False
) -> None:
    """Move a rewriter's rows from the spool into committed shards, as `seal` does with pictures."""
    with spool.sealing:
        if again:
            cache.refresh()
        known = rewrite_index(cache, rewriter) if again else None
        for rows in batches(spool, rewriter, "drawn", options):
            new = rows
            if known:
                places = known.find(from_hex([row.image_key for row in rows], "the spool"))
                new = [row for row, place in zip(rows, places.tolist(), strict=True) if place < 0]
            if new:
                table = pa.Table.from_pylist(list(_facts(spool, new)), schema=REWRITE_COLUMNS)
                commit_rewrites(cache, rewriter, table, provenance, spent=spool.statement())
            spool.mark_sealed([row.image_key for row in rows])
        seal_failures(cache, spool, rewriter, options, provenance)


def _facts(spool: Spool, rows: list[SpoolRow]) -> Iterator[dict[str, Any]]:
    answers = spool.pictures([row.image_key for row in rows])
    for row, data in zip(rows, answers, strict=True):
        try:
            answer = json.loads(data)
            text = answer["text"]
            digest = sha256(text.encode("utf-8"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CacheError(f"the spool: the rewritten text {row.image_key} is damaged") from None
        facts = {name: getattr(row, name) for name in ("prompt_key", "prompt", "cost_usd", "seconds", "attempts")}
        answered = {name: answer[name] for name in ("model", "input_tokens", "output_tokens")}
        yield facts | answered | {"rewrite_key": row.image_key, "rewritten": text, "rewritten_sha256": digest}
