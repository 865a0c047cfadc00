"""Atomic file writes: a file is complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from teacher_cache import atomic_write


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that is complete or absent."""
    atomic_write(path, json.dumps(value, indent=1).encode("utf-8"), durable=False)
