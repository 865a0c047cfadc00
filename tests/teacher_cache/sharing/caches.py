"""Caches of fake pictures for the tests of sharing."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from teacher_cache import BuildOptions, Cache, build
from tests import fakes

PROMPTS = [f"prompt {number}" for number in range(10)]
SMALL = BuildOptions(shard_rows=4, seal_rows=4)


def built(folder: Path, prompts: list[str] = PROMPTS) -> Path:
    """Build a cache of three shards of pictures, with a failure, and return its folder."""
    if prompts == PROMPTS and not folder.exists():
        shutil.copytree(_built_once(), folder, ignore=shutil.ignore_patterns("local"))
    else:
        _build(folder, prompts)
    return folder


@cache
def _built_once() -> Path:
    """Build the usual cache once per process."""
    folder = Path(tempfile.mkdtemp(prefix="armada-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _build(folder / "cache", PROMPTS)
    return folder / "cache"


def _build(folder: Path, prompts: list[str]) -> None:
    options = BuildOptions(shard_rows=4, seal_rows=1000)  # one seal at the end: the shards depend on no clock
    build(Cache(str(folder), create=True), [*prompts, "[refused] x"], fakes.teacher(), fakes.encoder(), options)


def costs_nothing(url: object, prompts: list[str] = PROMPTS) -> bool:
    """Return whether a build of the prompts of `built` neither calls the teacher nor encodes a picture."""
    teacher, encoder = fakes.teacher(), fakes.encoder()
    build(Cache(str(url)), [*prompts, "[refused] x"], teacher, encoder, SMALL)
    return teacher.calls == [] and encoder.encoded == 0
