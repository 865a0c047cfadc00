"""The tables of shards: read from a store, and compared with what their commit states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Shard
from teacher_cache.format.shards import read_table, schema_of
from teacher_cache.keys import sha256

REMOTE_THREADS = 16  # they wait for the network


def read_shard(store: Store, shard: Shard, columns: Sequence[str] | None, *, check: bool) -> pa.Table:
    """Return the rows of a shard, of a tar those of its index; see `Cache.table`, which has the same errors."""
    file = shard.index or shard
    where = f"{store}/{file.path}"

    def check_size(size: int) -> None:
        if size != file.bytes:
            raise CacheError(f"{where}: expected {file.bytes} bytes, found {size}; {repair_hint()}")

    if check or columns is None:
        data = store.read(file.path)
        check_size(len(data))
        if sha256(data) != file.sha256:
            raise CacheError(f"{where}: sha256 differs from the commit's; {repair_hint()}")
        table = read_table(pa.BufferReader(data), where, schema_of(file.path), columns, file.rows)
    else:
        with store.open(file.path) as stream:
            check_size(stream.seek(0, 2))
            stream.seek(0)
            table = read_table(stream, where, schema_of(file.path), columns, file.rows)
    if table.num_rows != file.rows:
        raise CacheError(f"{where}: expected {file.rows} rows, found {table.num_rows}; {repair_hint()}")
    return table


def in_turn(store: Store, shards: Sequence[Shard], read: Callable[[Shard], pa.Table]) -> list[pa.Table]:
    """Return the tables of shards, in their order; those of a remote store are read in parallel."""
    if store.is_local or len(shards) < 2:
        return [read(shard) for shard in shards]
    with ThreadPoolExecutor(REMOTE_THREADS, "armada-tables") as pool:
        return list(pool.map(read, shards))
