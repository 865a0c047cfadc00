"""Calls per second of the openai teacher with 64 in flight, compared with bare httpx and aiohttp.

The teacher is called as `armada cache build` calls it: each call is reserved and recorded durably in the spool,
pictures are checked, and shards are sealed meanwhile. The bare clients store nothing. They take turns, in rounds, so
that other work on the machine meets all of them; a round's ratio is ours to the fastest of the others in that round.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import numpy as np

from parts.image_api import ImageApi, image_api
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


def measure(calls: int, rounds: int) -> dict[str, Any]:
    """Return calls per second for a server of 500 ms, and for one of 50 ms in `rounds` rounds beside bare clients."""
    with image_api(0.5) as api:
        armada(api, IN_FLIGHT)  # imports, and the first shard
        api.rate(IN_FLIGHT)
        armada(api, calls)
        slow = api.rate(calls)
    with image_api(0.05) as api:
        rates = [_round(api, 2 * calls, number) for number in range(rounds)]
    ratios = [round_["armada"] / max(rate for name, rate in round_.items() if name != "armada") for round_ in rates]
    return {
        "500 ms": {"calls_per_second": round(slow, 1), "of_ceiling": round(slow * 0.5 / IN_FLIGHT, 3)},
        "50 ms": {
            "ceiling": IN_FLIGHT / 0.05,
            "rounds": rounds,
            "calls_per_second": {name: round(median(round_[name] for round_ in rates), 1) for name in rates[0]},
            "of_fastest_bare": round(median(ratios), 3),
            "of_fastest_bare_from": round(min(ratios), 3),
            "of_fastest_bare_to": round(max(ratios), 3),
        },
    }


def _round(api: ImageApi, calls: int, number: int) -> dict[str, float]:
    """Return the calls per second of each client that is installed; each round begins with another one."""
    clients = {"armada": armada, "httpx": bare_httpx, "aiohttp": bare_aiohttp}
    names = list(clients)
    rates = {}
    for name in names[number % len(names) :] + names[: number % len(names)]:
        try:
            clients[name](api, calls)
            rates[name] = api.rate(calls)
        except ModuleNotFoundError:
            continue
    return rates
