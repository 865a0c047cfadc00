"""JSON for others to read: strict, and in files that are complete or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that is complete or absent."""
    from teacher_cache import atomic_write  # here, since `armada --help` needs `json_text` alone

    atomic_write(path, json_text(value, indent=1).encode("utf-8"), durable=False)


def json_text(value: Any, **options: Any) -> str:
    """Return a value as strict JSON, which has no NaN and no infinity: they become null. `options` are json.dumps's."""
    return json.dumps(_strict(value), allow_nan=False, **options)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
