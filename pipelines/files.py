"""Files that are written whole: under their name they are complete or absent."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that is complete or absent."""
    write_whole(path, json_text(value, indent=1).encode("utf-8"))


def json_text(value: Any, **options: Any) -> str:
    """Return a value as strict JSON, which has no NaN and no infinity: they become null. `options` are json.dumps's."""
    return json.dumps(_strict(value), allow_nan=False, **options)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is complete or absent: a draft beside it is renamed once it is whole."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(data)
    os.replace(draft, path)
