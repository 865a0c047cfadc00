"""Pictures that look alike: pairs whose features, less the mean of all, have a cosine close to 1.

No picture is decoded and no matrix of all pairs is made. Each feature is hashed into 256 bits, one per random
hyperplane: two features with the angle a differ in 256 a / pi bits on average. Rows that agree in a band of bits are
compared by their bits, and only the most similar pairs by their features, which are read a second time. A million rows
take 32 MB and time that grows with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

COSINE = 0.98  # of features less their mean
MOST_ROWS = 2_000_000
_BITS = 256
_NEXT = 8  # rows of a band that each row is compared with
_PAIRS = 4096  # that are compared by their features
_MEAN_ROWS = 16_384  # of which the mean is taken
_SPREAD = 2.0  # standard deviations of the number of different bits

Blocks = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Pair:
    """Two rows (numbers over all blocks), and the cosine of their features less the mean."""

    first: int
    second: int
    cosine: float


@dataclass(frozen=True)
class LookAlikes:
    """The most similar pairs first; `rows` were compared. There may be more pairs if `is_cut`."""

    pairs: tuple[Pair, ...]
    rows: int
    is_cut: bool = False


def find_lookalikes(blocks: Blocks, keep: np.ndarray | None = None, cosine: float = COSINE) -> LookAlikes:
    """Return the pairs of rows with at least a `cosine`.

    Args:
        blocks: Returns an iterator over matrices (N, L) of features; it is called twice, and yields the same twice.
        keep: (N,) bool over all rows: which to compare. None compares all, up to MOST_ROWS.
        cosine: Of features less the mean of the first rows.
    """
    codes, mean = _codes(blocks)
    rows = np.arange(len(codes)) if keep is None else np.flatnonzero(keep[: len(codes)])
    if len(rows) < 2:
        return LookAlikes((), len(rows))
    different = np.arccos(cosine) / math.pi
    most = _BITS * different + _SPREAD * math.sqrt(_BITS * different * (1 - different))
    found = _candidates(codes[rows], most)
    is_cut = len(found) > _PAIRS
    found = rows[found[:_PAIRS]]
    if not len(found):
        return LookAlikes((), len(rows))
    wanted = np.unique(found)
    unit = _units(blocks, wanted, mean)
    places = np.searchsorted(wanted, found)
    cosines = np.einsum("nl,nl->n", unit[places[:, 0]], unit[places[:, 1]])
    order = np.argsort(-cosines, kind="stable")
    pairs = (Pair(int(found[at, 0]), int(found[at, 1]), float(cosines[at])) for at in order)
    return LookAlikes(tuple(pair for pair in pairs if pair.cosine >= cosine), len(rows), is_cut)


def _codes(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes (N, 4) uint64 of all rows, and the mean (L,) of the first ones."""
    codes: list[np.ndarray] = []
    mean = planes = np.empty(0, np.float32)
    count = 0
    for block in blocks():
        wide = np.nan_to_num(block.astype(np.float32))
        if not planes.size and len(wide):
            mean = wide[:_MEAN_ROWS].mean(axis=0)
            planes = np.random.default_rng(0).standard_normal((wide.shape[1], _BITS), np.float32)
        bits = (wide - mean) @ planes > 0  # (N, 256)
        codes.append(np.packbits(bits, axis=1).view(np.uint64))
        count += len(wide)
        if count >= MOST_ROWS:
            break
    return (np.concatenate(codes)[:MOST_ROWS] if codes else np.empty((0, 4), np.uint64)), mean


def _candidates(codes: np.ndarray, most: float) -> np.ndarray:
    """Return pairs of rows (P, 2) that agree in a band and differ in at most so many bits, the most similar first."""
    width = min(24, max(12, math.ceil(math.log2(len(codes))) + 1))
    bits = np.unpackbits(codes.view(np.uint8), axis=1) if len(codes) <= 65_536 else None
    packed: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    for start in range(0, _BITS - width + 1, width):
        band = _band(codes, bits, start, width)
        order = np.argsort(band, kind="stable")
        band = band[order]
        for step in range(1, _NEXT + 1):
            at = np.flatnonzero(band[:-step] == band[step:])
            if not len(at):
                break
            first, second = order[at], order[at + step]
            distance = np.bitwise_count(codes[first] ^ codes[second]).sum(axis=1)
            near = distance <= most
            low, high = np.minimum(first, second)[near], np.maximum(first, second)[near]
            packed.append(low * len(codes) + high)
            distances.append(distance[near])
    pairs, once = np.unique(np.concatenate(packed) if packed else np.empty(0, np.int64), return_index=True)
    if not len(pairs):
        return np.empty((0, 2), np.int64)
    nearest = np.argsort(np.concatenate(distances)[once], kind="stable")[: _PAIRS + 1]
    chosen = pairs[nearest]
    return np.stack([chosen // len(codes), chosen % len(codes)], axis=1)


def _band(codes: np.ndarray, bits: np.ndarray | None, start: int, width: int) -> np.ndarray:
    """Return `width` bits of each code from `start` on, as (N,) int64."""
    value = np.zeros(len(codes), np.int64)
    data = codes.view(np.uint8)
    for place in range(start, start + width):
        bit = bits[:, place] if bits is not None else (data[:, place // 8] >> (7 - place % 8)) & 1
        value = (value << 1) | bit
    return value


def _units(blocks: Blocks, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the features (R, L) of some rows, sorted, less the mean, with unit norm."""
    parts, start = [], 0
    for block in blocks():
        inside = rows[(rows >= start) & (rows < start + len(block))] - start
        if len(inside):
            parts.append(np.nan_to_num(block[inside].astype(np.float32)) - mean)
        start += len(block)
        if start > rows[-1]:
            break
    wide = np.concatenate(parts)
    unit: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
