"""Small helpers on Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array."""
    if isinstance(column, pa.Array):
        return column
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return combined.chunk(0) if combined.num_chunks else pa.array([], column.type)
    return combined


def counts(values: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """How often each value stands there."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}


def concat(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The tables under one another; none is an empty table of `schema`."""
    return pa.concat_tables(tables) if tables else schema.empty_table()


def first_of_each(table: pa.Table, column: str) -> pa.Table:
    """The first row of each distinct digest in a column, in the order in which they come."""
    if all_differ(table[column]):
        return table
    return table.take(pc.index_in(pc.unique(table[column]), one_array(table[column])))


def all_differ(digests: pa.ChunkedArray) -> bool:
    """Whether no digest stands there twice. Beginnings that differ show it in a quarter of the memory."""
    beginnings = pc.utf8_slice_codeunits(digests, 0, 16)
    return len(pc.unique(beginnings)) == len(digests) or len(pc.unique(digests)) == len(digests)
