"""Progress on standard error: a bar with rate and remaining time on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from typing import Any


def progress(total: int, what: str, unit: str) -> Any:
    """A tqdm bar; use as a context manager and call `update(n)`. Rate and remaining time are in `unit`."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=False,
        file=sys.stderr,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 15,
        ascii=None if terminal else " =",
        leave=True,
    )
