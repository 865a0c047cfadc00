"""What the tests of batches share: a teacher of a stand-in server, and a build with it."""

from __future__ import annotations

from typing import Any

from teacher_cache import BuildOptions, BuildReport, Cache, TeacherStatus, build, open_teacher, status
from tests import fakes
from tests.teacher_cache.batches.batch_server import BatchServer

PROMPTS = [f"prompt {i}" for i in range(8)]
WAIT = BuildOptions(wait=True)


def teacher(server: BatchServer, **options: Any) -> Any:
    words = {"base_url": server.url, "price": "0.04", "poll": "0.02", **options}
    return open_teacher("openai-batch:gpt-image-1-mini?" + "&".join(f"{k}={v}" for k, v in words.items()))


def run(
    cache: Cache, server: BatchServer, options: BuildOptions = WAIT, prompts: Any = PROMPTS, **spec: Any
) -> BuildReport:
    return build(cache, prompts, teacher(server, **spec), fakes.encoder(), options)


def state_of(cache: Cache) -> TeacherStatus:
    (state,) = status(cache)
    return state
