"""Atomic file writes: a file is complete or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that is complete or absent."""
    write_whole(path, json.dumps(value, indent=1).encode("utf-8"))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is complete or absent: write a draft in the same folder, then rename it."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(data)
    os.replace(draft, path)
