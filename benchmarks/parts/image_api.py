"""A fast image server on loopback for benchmarks, in a process of its own.

It answers a POST after a delay with one of sixteen PNGs of 60 KB as base64. It measures the times itself, so that all
clients are measured by one clock.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image

SIDE = 142  # pixels of noise: 60 KB of PNG


def pictures() -> list[bytes]:
    """Return sixteen PNGs of noise."""
    found = []
    for seed in range(16):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(stream, "PNG")
        found.append(stream.getvalue())
    return found


async def _serve(pipe: Connection, delay_s: float) -> None:
    replies = []
    for picture in pictures():
        body = json.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        replies.append(head.encode() + body)
    served = {"calls": 0, "first": 0.0, "last": 0.0}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                served["first"] = served["first"] or time.perf_counter()
                lines = head.lower().split(b"\r\n")
                length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
                await reader.readexactly(length)
                await asyncio.sleep(delay_s)
                writer.write(replies[served["calls"] % len(replies)])
                await writer.drain()
                served["calls"] += 1
                served["last"] = time.perf_counter()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    pipe.send(server.sockets[0].getsockname()[1])
    while True:
        await asyncio.sleep(0.02)
        if pipe.poll():
            if pipe.recv() == "end":
                return
            pipe.send(dict(served))
            served.update(calls=0, first=0.0, last=0.0)


def _run(pipe: Connection, delay_s: float) -> None:
    asyncio.run(_serve(pipe, delay_s))


class ImageApi:
    """A running server at `url`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url = f"http://127.0.0.1:{pipe.recv()}/v1"

    def rate(self, calls: int) -> float:
        """Return the calls per second, from the first request to the last response, since the last `rate`."""
        self._pipe.send("rate")
        served = self._pipe.recv()
        assert served["calls"] == calls, served
        return float(calls / (served["last"] - served["first"]))


@contextmanager
def image_api(delay_s: float) -> Iterator[ImageApi]:
    """Run a server that takes `delay_s` seconds per picture."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(theirs, delay_s), daemon=True)
    process.start()
    try:
        yield ImageApi(ours)
    finally:
        ours.send("end")
        process.join(5)
