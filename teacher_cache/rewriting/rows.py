"""The rewritten prompts of a cache: who rewrote, what was made of which text, and the shards that hold it.

A text that was rewritten twice, on two hosts, has one prompt everywhere: the one with the smallest digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.arrow import concat, first_of_each, one_array
from teacher_cache.format.columns import REWRITE_COLUMNS
from teacher_cache.format.commits import Entry, Shard, Spent
from teacher_cache.format.digests import DigestIndex, from_hex, index_digests
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.keys import prompt_key, rewrite_key, sha256
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import digest_index

_BATCH = 16_384  # rows that are checked at once


def register_rewriter(cache: Cache, rewriter: Source) -> None:
    """Write the spec of a rewriter into the folder of its shards, unless it is there."""
    path = f"rewrites/{rewriter.name}/rewriter.json"
    if not cache.store.exists(path):
        text = json.dumps({"digest": rewriter.digest, "spec": rewriter.spec, **rewriter.facts}, indent=1)
        cache.store.write(path, text.encode("utf-8"))


def rewriters(cache: Cache) -> list[Source]:
    """Return all rewriters of a cache. Raise CacheError if a recorded spec was changed."""
    paths = [f"rewrites/{name}/rewriter.json" for name in cache.store.names("rewrites")]
    return [cache.source(path) for path in paths if cache.store.exists(path)]


def rewrite_index(cache: Cache, rewriter: Source) -> DigestIndex:
    """Return the index of the rewrite keys of the texts that a rewriter has rewritten."""
    return digest_index(cache, shards_folder(rewriter), "rewrite_key")


def read_rewrites(cache: Cache, rewriter: Source, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rewritten prompts of a rewriter (REWRITE_COLUMNS, or these columns, rewrite_key and rewritten_sha256),
    one row per text. Raise CacheError if a shard is damaged."""
    wanted = REWRITE_COLUMNS.names if columns is None else ["rewrite_key", "rewritten_sha256", *columns]
    tables = [table for _, table in cache.tables(shards_folder(rewriter), wanted, check=True)]
    table = concat(tables, pa.schema([REWRITE_COLUMNS.field(name) for name in wanted]))
    return first_of_each(
        table.sort_by([("rewrite_key", "ascending"), ("rewritten_sha256", "ascending")]), "rewrite_key"
    )


def commit_rewrites(
    cache: Cache,
    rewriter: Source,
    rows: pa.Table,
    provenance: Provenance,
    *,
    replaced: Iterable[Entry] = (),
    spent: Iterable[Spent] = (),
) -> Shard:
    """Write rewritten prompts (REWRITE_COLUMNS) as one Parquet shard, sorted by key, commit it and return it."""
    with cache.store.together():
        shard = cache.write_shard(shards_folder(rewriter)[:-1], rows.sort_by("rewrite_key"))
        cache.commit([shard], replaced=replaced, spent=spent, **provenance.now())
    return shard


def shards_folder(rewriter: Source) -> str:
    """Return the folder of a rewriter's shards, which ends in a slash."""
    return f"rewrites/{rewriter.name}/shards/"


def check_rewrites(rewriter: Source | None, table: pa.Table, where: str) -> None:
    """Raise CacheError, naming `where` the rows are, unless each row (REWRITE_COLUMNS) is of the text that its key
    says, rewritten by this rewriter (if it is known), and has the digest of what was made of it."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise CacheError(f"{where}: no readable rows: {error}") from None
    columns = table.select(["rewrite_key", "prompt_key", "prompt", "rewritten", "rewritten_sha256"])
    for row in (row for batch in columns.to_batches(max_chunksize=_BATCH) for row in batch.to_pylist()):
        key = rewrite_key(rewriter.digest, row["prompt_key"]) if rewriter else row["rewrite_key"]
        if (key, prompt_key(row["prompt"])) != (row["rewrite_key"], row["prompt_key"]):
            raise CacheError(f"{where}: the key {row['rewrite_key']} is not that of its text; {repair_hint()}")
        if not row["rewritten"] or sha256(row["rewritten"].encode("utf-8")) != row["rewritten_sha256"]:
            raise CacheError(
                f"{where}: the rewritten text {row['rewrite_key']} differs from its sha256; {repair_hint()}"
            )


@dataclass(frozen=True)
class RewriteTable:
    """What a rewriter made of each text, found by the text's digest; made by `rewrite_table`."""

    rewriter: Source
    index: DigestIndex  # of the rewrite keys
    rewritten: pa.LargeStringArray  # (N,)

    def find(self, prompt_keys: Iterable[str]) -> list[str | None]:
        """Return what was made of the texts with these digests, None for a text that was not rewritten."""
        keys = [rewrite_key(self.rewriter.digest, key) for key in prompt_keys]
        places = self.index.find(from_hex(keys, "rewrite keys")) if keys else np.empty(0, np.int64)
        found: list[str | None] = self.rewritten.take(pa.array(places, mask=places < 0)).to_pylist()
        return found


def rewrite_table(cache: Cache, rewriter: Source) -> RewriteTable:
    """Return what a rewriter made of the texts of a cache; raise the errors of `check_rewrites`."""
    table = read_rewrites(cache, rewriter)
    check_rewrites(rewriter, table, f"{cache.store}/{shards_folder(rewriter)}")
    index = index_digests(from_hex(table["rewrite_key"], f"the rewrites of {cache.store}"))
    return RewriteTable(rewriter, index, one_array(table["rewritten"].cast(pa.large_string())))
