"""The comparison of readers.py: each contestant has a process of its own and reads epochs in turns of a second.

One process each, because the libraries that one loads slow down the allocations of another. All data are opened before.
The other processes are stopped during a turn, with all their threads.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from parts.reader_cache import evict, in_memory, our_epoch, our_loader, plain_parquet, rate, write_cache
from parts.reader_peers import PEERS
from teacher_cache import Cache

Epoch = Callable[[int], Iterator[Any]]  # the batches of epoch e
TURN_S = 1.0


def _limit(folder: Path, matrix: np.ndarray) -> Epoch:
    inside = np.array(matrix)
    return lambda epoch: in_memory(inside, epoch)


def _armada(folder: Path, matrix: np.ndarray) -> Epoch:
    loader = our_loader(folder.parent / "cache")
    return lambda epoch: iter(loader)


CONTESTANTS = {
    "limit": _limit,
    "armada": _armada,
    "parquet": lambda folder, matrix: lambda epoch: plain_parquet(folder.parent / "cache"),
    **PEERS,
}


def _contestant(pipe: Connection, name: str, home: Path) -> None:
    """Run a contestant: prepare, then read epochs for one turn per message; the main function of its process."""
    try:
        epoch = CONTESTANTS[name](home / name, np.load(home / "matrix.npy", mmap_mode="r"))
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    number = 0
    while (seconds := pipe.recv()) is not None:
        rates, ends = [], time.monotonic() + TURN_S
        while not rates or time.monotonic() < ends:
            rates.append(rate(lambda number=number: epoch(number), seconds))
            number += 1
        pipe.send(median(rates))


def compare(home: Path, count: int, repeats: int, peer_seconds: float) -> dict[str, Any]:
    """Return the rates of all contestants, warm and from a cold page cache."""
    ours = home / "cache"
    np.save(home / "matrix.npy", write_cache(ours, count))
    context = multiprocessing.get_context("spawn")
    pipes, processes, absent = {}, {}, {}
    for name in CONTESTANTS:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_contestant, args=(theirs, name, home), daemon=True)
        process.start()
        problem = pipe.recv()
        if problem:
            absent[name] = problem
        else:
            pipes[name], processes[name] = pipe, process
            os.kill(process.pid or 0, signal.SIGSTOP)
    rates: dict[str, list[float]] = {name: [] for name in pipes}
    for turn in range(repeats + 1):
        for name, pipe in pipes.items():
            os.kill(processes[name].pid or 0, signal.SIGCONT)
            pipe.send(peer_seconds if name in PEERS else 1e9)
            found = pipe.recv()
            os.kill(processes[name].pid or 0, signal.SIGSTOP)
            if turn:  # the first round warms up
                rates[name].append(found)
    for process in processes.values():
        process.kill()
    return {
        "rows": count,
        "absent": absent,
        "rows_per_second": {name: round(median(found)) for name, found in rates.items()},
        "cold_rows_per_second": cold(ours, repeats),
    }


def cold(folder: Path, repeats: int) -> dict[str, int]:
    """Return rates from a cold page cache, opening included: plain Parquet, ours undecoded, ours decoded."""
    rates: dict[str, list[float]] = {"parquet": [], "armada": [], "armada_decoded": []}
    for _ in range(repeats):
        evict(folder)
        rates["parquet"].append(rate(lambda: plain_parquet(folder)))
        shutil.rmtree(Cache(str(folder)).derived_folder)
        for name in ("armada", "armada_decoded"):
            evict(folder)
            rates[name].append(rate(lambda: our_epoch(folder, 0)))
    return {name: round(median(found)) for name, found in rates.items()}
