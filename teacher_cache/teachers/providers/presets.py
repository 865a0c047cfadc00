"""Presets: how a server's requests and replies differ from OpenAI's, read from presets.yaml.

A preset only abbreviates a spec: what it adds to a request and changes a picture is in the teacher's spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

OPENAI = "https://api.openai.com/v1"
_FILE = Path(__file__).with_name("presets.yaml")


@dataclass(frozen=True)
class Poll:
    """How a task is asked for its picture: the names of fields, and the words of a status; any other word is
    "pending"."""

    url: str
    status: str
    ready: tuple[str, ...]
    refused: tuple[str, ...]
    failed: tuple[str, ...]
    result: str
    picture: str
    credits: str = ""


@dataclass(frozen=True)
class Preset:
    """The shape of a server's requests, see presets.yaml. `server` is its name in a key, `key_env` the environment
    variable of its API key."""

    name: str
    base_url: str
    path: str = "images/generations"
    server: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    key_env: str = ""
    key_header: str = "authorization"
    key_domain: str = ""
    seed: str = "auto"
    size: str = "size"
    model: str = "model"
    takes_n: bool = True
    body: Mapping[str, Any] = field(default_factory=dict)
    priced_by: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    poll: Poll | None = None

    def filled(self, text: str, values: Mapping[str, str]) -> str:
        """Return a text with {model} and the settings' values in their places."""
        return text.format_map(values) if "{" in text else text


OPENAI_PRESET = Preset("openai", OPENAI, key_env="OPENAI_API_KEY")


def preset_of(kind: str) -> Preset:
    """Return the preset of a kind of teacher. `openai` is any server with OpenAI's API, and has none of its own."""
    if kind == "openai":
        return OPENAI_PRESET
    import yaml

    entry = dict(yaml.safe_load(_FILE.read_text("utf-8"))[kind])
    poll: Any = entry.pop("poll", None)
    entry["server"] = entry.pop("as")
    if unknown := set(entry) - {one.name for one in fields(Preset)}:
        raise KeyError(*unknown)
    if poll:
        words: dict[str, Any] = {name: tuple(word) if isinstance(word, list) else word for name, word in poll.items()}
        entry["poll"] = Poll(**words)
    entry["priced_by"] = {name: tuple(value) for name, value in entry.get("priced_by", {}).items()}
    return Preset(kind, **entry)
