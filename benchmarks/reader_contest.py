"""The part of readers.py that compares: every contestant has a process of its own (what one loads slows another's
allocations), has opened its data before, and reads an epoch when it is its turn.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from reader_cache import evict, in_memory, our_epoch, our_loader, plain_parquet, rate, write_cache
from reader_peers import PEERS

Epoch = Callable[[int], Iterator[Any]]  # the batches of epoch e
WHOLE = 1e9  # seconds: the epoch is read to its end


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
    """A process's life: prepare, then an epoch whenever one is asked for."""
    try:
        epoch = CONTESTANTS[name](home / name, np.load(home / "matrix.npy", mmap_mode="r"))
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        number, seconds = asked
        pipe.send(rate(lambda number=number: epoch(number), seconds))


def compare(home: Path, count: int, repeats: int, peer_seconds: float) -> dict[str, Any]:
    """Done when 1."""
    ours = home / "cache"
    np.save(home / "matrix.npy", write_cache(ours, count))
    context = multiprocessing.get_context("spawn")
    pipes, absent = {}, {}
    for name in CONTESTANTS:
        pipe, theirs = context.Pipe()
        context.Process(target=_contestant, args=(theirs, name, home), daemon=True).start()
        problem = pipe.recv()
        if problem:
            absent[name] = problem
        else:
            pipes[name] = pipe
    rates: dict[str, list[float]] = {name: [] for name in pipes}
    for epoch in range(repeats + 1):
        for name, pipe in pipes.items():
            pipe.send((epoch, peer_seconds if name in PEERS else WHOLE))
            found = pipe.recv()
            if epoch:  # the first round warms up
                rates[name].append(found)
    for pipe in pipes.values():
        pipe.send(None)
    return {
        "rows": count,
        "absent": absent,
        "rows_per_second": {name: round(median(found)) for name, found in rates.items()},
        "cold_rows_per_second": cold(ours, repeats),
    }


def cold(folder: Path, repeats: int) -> dict[str, int]:
    """From a cold page cache, opening included: plain Parquet, ours undecoded, ours decoded."""
    rates: dict[str, list[float]] = {"parquet": [], "armada": [], "armada_decoded": []}
    for _ in range(repeats):
        evict(folder)
        rates["parquet"].append(rate(lambda: plain_parquet(folder)))
        shutil.rmtree(folder / "local")
        for name in ("armada", "armada_decoded"):
            evict(folder)
            rates[name].append(rate(lambda: our_epoch(folder, 0)))
    return {name: round(median(found)) for name, found in rates.items()}
