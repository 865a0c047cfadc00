"""Parts: how a plan's rows and a cache's tars are shared out, so that no worker waits and none holds the end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa

from teacher_cache.format.arrow import one_array
from teacher_cache.spool.rows import Wanted

_MOST = 1024  # rows per part
_AHEAD_S = 1.0  # the work that lies ready for a worker


class Parts:
    """The wanted rows of a plan, taken from the front."""

    def __init__(self, rows: Iterator[Wanted], count: int) -> None:
        self._rows, self.left = rows, count

    def take(self, size: int) -> tuple[Wanted, ...]:
        """Return the next rows, at most `size`."""
        rows = tuple(islice(self._rows, size))
        self.left = max(0, self.left - len(rows)) if len(rows) == size else 0
        return rows


def part_size(left: int, workers: int, waiting: int, rows_per_s: float, concurrency: int) -> int:
    """Return how many rows to order from a worker now; 0 if it has enough.

    Args:
        left: Rows that no worker has.
        workers: The number of workers.
        waiting: Rows that this worker has and has not claimed.
        rows_per_s: At which it claims them.
        concurrency: How many it has in flight at once.
    """
    enough = max(1, concurrency) + int(_AHEAD_S * rows_per_s)
    if waiting >= enough or not left:
        return 0
    share = max(1, -(-left // (2 * workers)))  # what is left at the end goes out in ever smaller parts
    return min(2 * enough - waiting, share, _MOST)


def tar_parts(places: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield pictures (key_columns.PLACE_COLUMNS) in parts of whole tars: of at least `size` rows each, but the last."""
    if not places.num_rows:
        return
    paths = one_array(places["path"])
    places = places.take(pa.array(np.argsort(paths.indices.to_numpy(), kind="stable")))
    codes = one_array(places["path"]).indices.to_numpy()
    edges = [*np.flatnonzero(np.diff(codes) != 0) + 1, len(codes)]
    names = places["path"].cast(pa.string())
    places = places.set_column(places.schema.get_field_index("path"), "path", names)
    start = 0
    for edge in edges:
        if edge - start >= size or edge == len(codes):
            yield places.slice(start, edge - start)
            start = int(edge)
