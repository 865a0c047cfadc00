"""Which pictures one request of a batch asks for: samples of one prompt, up to as many as the API gives at once.

The groups of a batch follow from its rows alone. The rows of a group are settled together, so that the others keep
their groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from teacher_cache.spool.rows import Wanted
from teacher_cache.teachers import Request


def groups_of(rows: Sequence[Wanted], per_request: int) -> Iterator[list[Request]]:
    """Yield the requests of rows, which are sorted by prompt and sample, in groups with one prompt. The first key of a
    group is the custom id of its line."""
    for _, same in itertools.groupby(rows, key=lambda row: row.prompt_key):
        requests = [row.request for row in same]
        for start in range(0, len(requests), per_request):
            yield requests[start : start + per_request]
