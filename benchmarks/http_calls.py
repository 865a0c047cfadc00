"""Calls per second of the openai teacher with 64 in flight, compared with bare httpx and aiohttp.

The teacher is called as `armada cache build` calls it: each call is reserved and recorded durably in the spool,
pictures are checked, and shards are sealed meanwhile. The bare clients store nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from image_api import ImageApi, image_api

from teacher_cache import BuildOptions, Cache, build, open_teacher

IN_FLIGHT = 64


class SizeEncoder:
    """A feature that takes no time, so that calls are measured and not encoding."""

    spec: ClassVar = {"kind": "size", "dimension": 2}
    dimension, batch_size = 2, 256

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        return np.array([[1, len(picture) / 1e5] for picture in pictures], np.float32)


def armada(api: ImageApi, calls: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    try:
        teacher: Any = open_teacher(f"openai:bench?base_url={api.url}&concurrency={IN_FLIGHT}")
        prompts = [f"prompt {number}" for number in range(calls)]
        report = build(
            Cache(str(home / "c"), create=True), prompts, teacher, SizeEncoder(), BuildOptions(seal_rows=512)
        )
        assert (report.drawn, report.calls) == (calls, calls), report
    finally:
        shutil.rmtree(home)


def bare_httpx(api: ImageApi, calls: int) -> None:
    try:
        import httpx2 as httpx
    except ModuleNotFoundError:
        import httpx

    async def run() -> None:
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def call(number: int) -> None:
                body = {"model": "bench", "prompt": f"prompt {number}"}
                (await client.post(f"{api.url}/images/generations", json=body)).json()

            await _in_flight(call, calls)

    asyncio.run(run())


def bare_aiohttp(api: ImageApi, calls: int) -> None:
    import aiohttp

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as client:

            async def call(number: int) -> None:
                body = {"model": "bench", "prompt": f"prompt {number}"}
                async with client.post(f"{api.url}/images/generations", json=body) as response:
                    await response.json()

            await _in_flight(call, calls)

    asyncio.run(run())


async def _in_flight(call: Any, calls: int) -> None:
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        async with turns:
            await call(number)

    await asyncio.gather(*(one(number) for number in range(calls)))


def measure(calls: int) -> dict[str, Any]:
    """Return calls per second, and their share of the ceiling, for a server of 500 ms and one of 50 ms."""
    clients = {"armada": armada, "httpx": bare_httpx, "aiohttp": bare_aiohttp}
    facts: dict[str, Any] = {}
    for delay_s, names, count in ((0.5, ["armada"], calls), (0.05, list(clients), 4 * calls)):
        ceiling, rates = IN_FLIGHT / delay_s, {}
        with image_api(delay_s) as api:
            for name in names:
                try:
                    clients[name](api, count)
                    rates[name] = round(api.rate(count), 1)
                except ModuleNotFoundError as error:
                    rates[name] = f"absent: {error}"
        facts[f"{1000 * delay_s:.0f} ms"] = {
            "ceiling": ceiling,
            "calls_per_second": rates,
            "of_ceiling": round(rates["armada"] / ceiling, 3),
        }
    return facts
