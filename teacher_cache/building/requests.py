"""The requests of a build: the pictures that a list of prompts needs, in a form that holds ten million of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from teacher_cache.format.arrow import one_array
from teacher_cache.format.digests import DigestIndex, canonical_rows, index_digests
from teacher_cache.format.sources import Source
from teacher_cache.keys import image_key, normalise, prompt_key, seed_of
from teacher_cache.spool.rows import Wanted
from teacher_cache.teachers import Request

_CHUNK = 16_384  # texts handled at once


@dataclass(frozen=True)
class Requests:
    """Pictures, each with its own key. Request i asks for sample `samples[i]` of the text `prompts[i]`."""

    rows: int  # of the input, duplicates included
    unique_prompts: int
    keys: np.ndarray  # (N, 32) uint8: image keys
    prompts: pa.LargeStringArray  # (N,), normalised
    samples: np.ndarray  # (N,) int32
    drawn: Callable[[Sequence[str]], Sequence[str]] | None = None  # the prompts that a recipe makes of some texts

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def index(self) -> DigestIndex:
        """Finds a request by its image key."""
        return index_digests(self.keys)

    def texts(self, chosen: np.ndarray) -> Iterator[str]:
        """Yield the prompts of the requests that are marked in (N,) bool."""
        for places in _parts(np.flatnonzero(chosen)):
            yield from self.prompts.take(pa.array(places)).to_pylist()

    def rows_at(self, places: np.ndarray) -> Iterator[dict[str, Any]]:
        """Yield the keys, the text and the sample of the requests at these places (M,), as shards have them."""
        for part in _parts(places):
            for place, text in zip(part.tolist(), self.prompts.take(pa.array(part)).to_pylist(), strict=True):
                facts = {"image_key": self.keys[place].tobytes().hex(), "prompt_key": prompt_key(text)}
                yield facts | {"prompt": text, "sample": int(self.samples[place])}

    def wanted(self, places: np.ndarray, attempts: np.ndarray) -> Iterator[Wanted]:
        """Yield the requests at these places (M,), one by one; `attempts` (N,) counts their earlier calls."""
        for part in _parts(places):
            texts: list[str] = self.prompts.take(pa.array(part)).to_pylist()
            prompts = self.drawn(texts) if self.drawn else texts
            for place, text, prompt in zip(part.tolist(), texts, prompts, strict=True):
                key = self.keys[place].tobytes().hex()
                request = Request(key, prompt, int(self.samples[place]), seed_of(key))
                yield Wanted(request, prompt_key(text), int(attempts[place]), text if self.drawn else None)


def _parts(places: np.ndarray) -> Iterator[np.ndarray]:
    return (places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK))


def make_requests(
    teacher: Source,
    prompts: Iterable[str],
    samples: int = 1,
    limit: int | None = None,
    key: Callable[[str, str, int], str] = image_key,
) -> Requests:
    """Return the pictures that prompts need, without duplicates: `samples` per prompt, for the first `limit` unique
    prompts. The prompts are read once, one after the other. `key` makes the key of a request of the teacher's digest,
    the prompt's and the number of the sample."""
    texts: list[pa.Array] = []
    digests = bytearray()
    remaining = iter(prompts)
    while chunk := [normalise(text) for text in islice(remaining, _CHUNK)]:
        texts.append(pa.array(chunk, pa.large_string()))
        digests += bytes.fromhex("".join(map(prompt_key, chunk)))
    column = one_array(pa.chunked_array(texts, pa.large_string()))
    del texts
    unique = np.frombuffer(digests, np.uint8).reshape(-1, 32)
    rows = len(unique)
    first = np.sort(canonical_rows(unique))[:limit]
    if len(first) < rows:
        column, unique = column.take(pa.array(first)), unique[first]
    if samples > 1:
        column = column.take(pa.array(np.repeat(np.arange(len(unique)), samples)))
    return Requests(
        rows=rows,
        unique_prompts=len(unique),
        keys=_keys(key, teacher.digest, unique, samples),
        prompts=column,
        samples=np.tile(np.arange(samples, dtype=np.int32), len(unique)),
    )


def _keys(key: Callable[[str, str, int], str], teacher_digest: str, prompts: np.ndarray, samples: int) -> np.ndarray:
    """Return the keys of prompts (P, 32) uint8, in the order of the prompts, as (P * samples, 32) uint8."""
    keys = bytearray()
    numbers = range(samples)
    for start in range(0, len(prompts), _CHUNK):
        block = prompts[start : start + _CHUNK].tobytes().hex()
        texts = (block[place : place + 64] for place in range(0, len(block), 64))
        keys += bytes.fromhex("".join(key(teacher_digest, text, n) for text in texts for n in numbers))
    return np.frombuffer(keys, np.uint8).reshape(-1, 32)
