"""The pictures of a night: some to look at, those that are the same file, and those that look alike.

The cache is read shard by shard; of its pictures only those that are shown are decoded.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.night.lookalikes import MOST_ROWS, LookAlikes, find_lookalikes
from pipelines.night.reasons import shorten
from teacher_cache import (
    ArmadaError,
    Cache,
    Listing,
    Requests,
    Source,
    feature_matrix,
    image_tables,
    open_picture,
    read_picture,
)

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLES, GROUPS, PAIRS = 24, 12, 12
_SIDE = 160  # pixels of a picture on the page
_PLACE = ["image_key", "image_sha256", "prompt", "sample", "path", "offset", "bytes"]


@dataclass(frozen=True)
class Shown:
    """A picture on the page: its prompt, and the picture as a data URL; "" if it can't be read."""

    image_key: str
    prompt: str
    sample: int
    picture: str


@dataclass(frozen=True)
class SamePictures:
    """Pictures with the same bytes: how many, and two of them. `prompts` tells whether they have several prompts."""

    count: int
    two: tuple[Shown, ...]
    prompts: bool


@dataclass(frozen=True)
class AlikePictures:
    """Two pictures that look alike, and the cosine of their features less the mean of all."""

    cosine: float
    two: tuple[Shown, ...]
    prompts: bool  # whether they have different prompts


@dataclass(frozen=True)
class NightPictures:
    """What the pictures of the requested prompts show. `alike_rows` of them were compared by their features."""

    rows: int = 0
    samples: tuple[Shown, ...] = ()
    same: tuple[SamePictures, ...] = ()
    same_groups: int = 0
    same_rows: int = 0  # pictures that another one equals
    alike: tuple[AlikePictures, ...] = ()
    alike_pairs: int = 0
    alike_rows: int = 0
    alike_is_cut: bool = False  # there may be more pairs
    alike_note: str = ""  # why none were compared


def look_at_pictures(
    cache: Cache, listing: Listing, teacher: Source, encoder: Source, requests: Requests, seed: int = 0
) -> NightPictures:
    """Return what is to be seen in the requested pictures that the cache has now.

    Raise CacheError if a shard can't be read.
    """
    chooser = np.random.default_rng(seed)
    digests, has, some = _canonical(cache, listing, teacher, requests, chooser)
    places = np.flatnonzero(has)
    if not len(places):
        return NightPictures(alike_note="there is no picture yet")
    groups = [places[group] for group in _same(digests[places])]
    first = has.copy()  # one picture of each group
    for group in groups:
        first[group[1:]] = False
    found, rows, note = _alike(cache, listing, teacher, encoder, requests, digests, first)
    pairs = [(pair.cosine, [int(rows[pair.first]), int(rows[pair.second])]) for pair in found.pairs]
    twins = [_twins(requests, group) for group in groups[:GROUPS]]
    named = {place for two in twins for place in two}
    named |= {place for _, pair in pairs[:PAIRS] for place in pair}
    by_key = _places(cache, listing, teacher, {_key(requests, place) for place in named})
    shown = {place: _shown(cache, by_key[key]) for place in named if (key := _key(requests, place)) in by_key}
    return NightPictures(
        rows=len(places),
        samples=tuple(_shown(cache, some[at]) for at in sorted(chooser.permutation(len(some))[:SAMPLES].tolist())),
        same=tuple(
            SamePictures(len(group), two := _two(shown, twin), _differ(two))
            for group, twin in zip(groups, twins, strict=False)
        ),
        same_groups=len(groups),
        same_rows=sum(len(group) for group in groups),
        alike=tuple(AlikePictures(cosine, two := _two(shown, pair), _differ(two)) for cosine, pair in pairs[:PAIRS]),
        alike_pairs=len(pairs),
        alike_rows=found.rows,
        alike_is_cut=found.is_cut,
        alike_note=note,
    )


def _canonical(
    cache: Cache, listing: Listing, teacher: Source, requests: Requests, chooser: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Return the digests (N, 32) uint8 of the requested pictures, which of them there are (N,) bool, and index rows of
    some of each shard. If a key has several pictures, the smallest digest counts."""
    digests, has = np.zeros((len(requests), 32), np.uint8), np.zeros(len(requests), bool)
    some: list[dict[str, Any]] = []
    for table in image_tables(cache, listing, teacher):
        places = requests.index.find(_bytes(table, "image_key"))
        rows = np.flatnonzero(places >= 0)
        new = _bytes(table, "image_sha256")
        for row in rows[has[places[rows]]].tolist():  # rare: two people drew the same picture
            place = places[row]
            if new[row].tobytes() < digests[place].tobytes():
                digests[place] = new[row]
        rows = rows[~has[places[rows]]]
        digests[places[rows]], has[places[rows]] = new[rows], True
        for row in np.sort(chooser.permutation(rows)[:SAMPLES]).tolist():
            some += table.select(_PLACE).slice(row, 1).to_pylist()
    return digests, has, some


def _same(digests: np.ndarray) -> list[np.ndarray]:
    """Return the rows with the same digest (N, 32), as groups of at least two, the largest group first."""
    heads = np.ascontiguousarray(digests[:, :16]).view("V16").reshape(-1)
    order = np.argsort(heads, kind="stable")
    ends = np.flatnonzero(np.append(heads[order][1:] != heads[order][:-1], True)) + 1
    begins = np.append(0, ends[:-1])
    several = np.flatnonzero(ends - begins > 1)
    groups = [order[begins[at] : ends[at]] for at in several.tolist()]
    return sorted(groups, key=lambda group: (-len(group), int(group[0])))


def _alike(
    cache: Cache,
    listing: Listing,
    teacher: Source,
    encoder: Source,
    requests: Requests,
    digests: np.ndarray,
    wanted: np.ndarray,
) -> tuple[LookAlikes, np.ndarray, str]:
    """Return pairs of features that look alike, the request of each row of features, and why none were compared.

    `digests` (N, 32) are those of the requested pictures, and `wanted` (N,) tells which of them to compare.
    """
    if encoder.spec.get("kind") == "text":
        return LookAlikes((), 0), np.empty(0, np.int64), "this encoder embeds prompts, and no pictures"
    shards = listing.below(f"features/{teacher.name}/{encoder.name}/shards/")
    found, keep, count = [np.empty(0, np.int64)], [np.empty(0, bool)], 0
    left = wanted.copy()
    for shard in shards:
        table = cache.table(shard, ["image_key", "image_sha256"])
        places = requests.index.find(_bytes(table, "image_key"))
        is_of = (places >= 0) & (digests[places] == _bytes(table, "image_sha256")).all(axis=1) & left[places]
        left[places[is_of]] = False  # another shard may have the same row
        found.append(places)
        keep.append(is_of)
        count += len(places)
        if count >= MOST_ROWS:
            break

    def blocks() -> Iterator[np.ndarray]:
        for shard in shards:
            yield feature_matrix(cache.table(shard, ["feature"])["feature"])

    pairs = find_lookalikes(blocks, np.concatenate(keep))
    return pairs, np.concatenate(found), "" if pairs.rows else "no picture has a feature of this encoder yet"


def _places(cache: Cache, listing: Listing, teacher: Source, keys: set[str]) -> dict[str, dict[str, Any]]:
    """Return where the pictures of some keys are; of several for one key the canonical one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, dict[str, Any]] = {}
    for table in image_tables(cache, listing, teacher) if keys else ():
        for row in table.filter(pc.is_in(table["image_key"], pa.array(sorted(keys)))).select(_PLACE).to_pylist():
            other = found.get(row["image_key"])
            if other is None or row["image_sha256"] < other["image_sha256"]:
                found[row["image_key"]] = row
    return found


def _shown(cache: Cache, row: Mapping[str, Any]) -> Shown:
    try:
        picture = data_url(read_picture(cache, row))
    except (ArmadaError, OSError):
        picture = ""
    return Shown(row["image_key"], shorten(row["prompt"] or ""), int(row["sample"] or 0), picture)


def data_url(data: bytes, side: int = _SIDE) -> str:
    """Return a picture as a small WebP in a data URL. Raise PictureError if it can't be opened."""
    image = open_picture(data)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=72)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _two(shown: Mapping[int, Shown], places: Sequence[int]) -> tuple[Shown, ...]:
    return tuple(shown[place] for place in places if place in shown)


def _key(requests: Requests, place: int) -> str:
    return str(requests.keys[place].tobytes().hex())


def _twins(requests: Requests, group: np.ndarray) -> list[int]:
    """Return two requests of a group, of different prompts if there are some."""
    first, *others = group[:1000].tolist()
    text = requests.prompts[first]
    return [first, next((place for place in others if requests.prompts[place] != text), others[0])]


def _differ(two: Sequence[Shown]) -> bool:
    return len({one.prompt for one in two}) > 1


def _bytes(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of digests in hexadecimal as (N, 32) uint8."""
    return np.frombuffer(bytes.fromhex("".join(table[name].to_pylist())), np.uint8).reshape(-1, 32)
