"""Files that are written whole: under their name they are complete or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file that is complete or absent."""
    write_whole(path, json.dumps(value, indent=1).encode("utf-8"))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is complete or absent: a draft beside it is renamed once it is whole."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(data)
    os.replace(draft, path)
