"""Fuzzing: valid files are damaged on purpose, and whatever reads them must return or raise ArmadaError.

The inputs are numbered, and each follows from its number alone, so that a run repeats the one before it. By default a
reader gets a few hundred; with ARMADA_FUZZ_SECONDS=N it gets as many as N seconds allow (ARMADA_FUZZ_FROM=NUMBER starts
there). An input that is a fault is kept in ARMADA_FUZZ_FINDINGS, by default the test's own folder; so is the current
one, if that is set, for a fault that ends the process.
"""

from __future__ import annotations

import itertools
import os
import random
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from teacher_cache import ArmadaError
from tests.fuzz.guard import MEGABYTES, Misconduct, guarded

ROOT = Path(__file__).resolve().parents[2]
OURS = ("teacher_cache", "distill", "pipelines")
FIRST = int(os.environ.get("ARMADA_FUZZ_FROM", "0"))  # the number of the first input
FINDINGS = os.environ.get("ARMADA_FUZZ_FINDINGS", "")
MOST_KINDS = 10  # of faults of one reader, after which it gets no further input
Mutation = Callable[[random.Random, bytes], bytes]


def fuzz(
    name: str,
    seeds: Sequence[bytes],
    mutations: Sequence[Mutation],
    read: Callable[[bytes], Any],
    home: Path,
    *,
    count: int = 200,
    megabytes: int = MEGABYTES,
    allowed: tuple[type[Exception], ...] = (),
) -> None:
    """Give damaged seeds to a reader.

    Args:
        name: Of the reader, from which its inputs follow.
        seeds: Valid inputs. They are read first, and must be read without an error.
        mutations: One is chosen for each input.
        read: The reader. It may write to `home` only.
        home: A folder of the test's own.
        count: How many inputs it gets by default.
        megabytes: How much memory one input may take.
        allowed: What the reader raises for bad input besides ArmadaError.
    """
    for seed in seeds:
        with guarded(home, megabytes):
            read(seed)
    examine(name, _inputs(name, seeds, mutations, count), read, home, megabytes=megabytes, allowed=allowed)


def examine(
    name: str,
    inputs: Iterable[bytes],
    read: Callable[[bytes], Any],
    home: Path,
    *,
    megabytes: int = MEGABYTES,
    allowed: tuple[type[Exception], ...] = (),
) -> None:
    """Give inputs to a reader, see `fuzz`. Raise AssertionError with all kinds of faults that they have shown."""
    faults: dict[str, str] = {}  # by their kind: the error and the line that raised it
    for number, data in enumerate(inputs, FIRST):
        if FINDINGS:  # what ends the process is the input that is left there
            Path(FINDINGS, "current").write_bytes(data)
        try:
            with guarded(home, megabytes):
                read(data)
        except (ArmadaError, *allowed):
            continue
        except (Exception, Misconduct) as error:
            kind = f"{type(error).__name__} at {_place(error)}"
            if kind not in faults:
                kept = Path(FINDINGS or home) / f"{name.replace('/', '-')}-{number}"
                kept.write_bytes(data)
                faults[kind] = f"input {number}, {len(data)} bytes, kept as {kept}: {kind}: {str(error)[:300]}"
            if len(faults) == MOST_KINDS:
                break
    if faults:
        raise AssertionError("\n".join([f"{name}: expected a result or ArmadaError, found", *faults.values()]))


def _inputs(name: str, seeds: Sequence[bytes], mutations: Sequence[Mutation], count: int) -> Iterator[bytes]:
    for number in _numbers(count):
        random_numbers = random.Random(f"{name}/{number}")
        yield random_numbers.choice(mutations)(random_numbers, random_numbers.choice(seeds))


def _numbers(count: int) -> Iterator[int]:
    if not (seconds := float(os.environ.get("ARMADA_FUZZ_SECONDS", "0"))):
        yield from range(FIRST, FIRST + count)
        return
    end = time.monotonic() + seconds
    for number in itertools.count(FIRST):
        if time.monotonic() > end:
            return
        yield number


def _place(error: BaseException) -> str:
    """Return the file and line that raised an error, the last one that is ours or the last one at all."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [frame for frame in frames if any(str(ROOT / part) in str(frame[0]) for part in OURS)] or frames
    return f"{ours[-1][0].name}:{ours[-1][1]}"
