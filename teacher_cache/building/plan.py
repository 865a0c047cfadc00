"""The plan of a build: which pictures and features a list of prompts needs, and which of them the cache has.

A plan is a function of the requests and the content of the cache; making it calls no teacher and writes nothing. The
cache is read shard by shard and keys are compared as bytes: ten million prompts are planned against ten million rows
within 2 GiB, in time that grows with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.batches.tables import keys_in_batches
from teacher_cache.building.requests import Requests
from teacher_cache.building.rewriting.texts import Texts, look_at_texts
from teacher_cache.building.spool_opening import open_existing_spool, total_spent
from teacher_cache.format.digests import DigestIndex, from_column, from_hex, index_digests, same_at, smaller_rows
from teacher_cache.format.recipes import rewriter_of
from teacher_cache.format.sources import Source
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import canonical_pictures, feature_digests, picture_digests


@dataclass(frozen=True)
class Plan:
    """What a build has to do. `at_hand` means: in the cache already."""

    requests: Requests  # all pictures that the prompts need
    pictures_at_hand: int
    features_at_hand: int
    failed: Mapping[str, int]  # number of earlier failures among `requests` by reason; only `retry` repeats them
    wanted: np.ndarray  # (N,) bool: the requests to send
    attempts: np.ndarray  # (N,) int32: the number of earlier calls that failed
    texts: Texts | None = None  # what the teacher's rewriter has made of the texts of missing pictures, if it has one

    @property
    def rewrites(self) -> int:
        """The number of texts to rewrite before their pictures are drawn."""
        return int(self.texts.wanted.sum()) if self.texts else 0

    def ready(self) -> Plan:
        """Return the plan without the pictures whose text is not rewritten."""
        if not self.texts:
            return self
        return replace(self, wanted=self.wanted & self.texts.are_at_hand(len(self.requests)))

    @property
    def calls(self) -> int:
        """The number of requests to send to the teacher."""
        return int(self.wanted.sum())

    def wanted_requests(self, start: int = 0, shuffle: np.random.Generator | None = None) -> Iterator[Wanted]:
        """Yield the requests to send one by one, without the first `start`; with `shuffle` in a random order."""
        places = np.flatnonzero(self.wanted)[start:]
        return self.requests.wanted(shuffle.permutation(places) if shuffle else places, self.attempts)

    def groups_at(self, pictures: Mapping[str, int]) -> list[Wanted]:
        """Return the requests to send among those that begin with some image keys: of each so many pictures of one
        prompt, in the order of their samples."""
        places: list[int] = []
        starts = self.requests.index.find(from_hex(list(pictures), "a batch")).tolist()
        for start, count in zip(starts, pictures.values(), strict=True):
            place, end = start, len(self.requests)
            while count and 0 <= place < end and (place == start or self.requests.samples[place]):
                if self.wanted[place]:
                    places.append(place)
                    count -= 1
                place += 1
        return list(self.requests.wanted(np.array(places, np.int64), self.attempts))


def make_plan(
    cache: Cache,
    teacher: Source,
    encoder: Source,
    requests: Requests,
    *,
    retry: Sequence[str] = (),
    retry_rewrites: Sequence[str] | None = None,
) -> Plan:
    """Return the plan for some requests. Failures whose reason is in `retry` are requested again; `retry_rewrites` are
    the reasons of failed rewrites, by default the same."""
    at_hand, pictures = _canonical(cache, teacher, requests.index)
    has = at_hand & _have_feature(cache, teacher, encoder, requests.index, pictures)
    wanted, attempts = ~at_hand, np.zeros(len(requests), np.int32)
    failed: dict[str, int] = {}
    rewriter = rewriter_of(teacher)
    texts = None
    if rewriter:
        retried = retry if retry_rewrites is None else retry_rewrites
        texts = look_at_texts(cache, rewriter, requests, wanted, retried)
    failures = cache.failures(teacher)
    places = requests.index.find(from_hex(failures["image_key"], f"the failures of {cache.store}"))
    for place, reason, count in zip(
        places.tolist(), failures["reason"].to_pylist(), failures["attempts"].to_pylist(), strict=True
    ):
        if place < 0 or at_hand[place]:
            continue
        attempts[place] = count
        if texts and texts.is_of_rewriter(place, count):
            continue  # whether it holds still, the rewriter's own rows say
        if reason not in retry:
            wanted[place] = False
            failed[reason] = failed.get(reason, 0) + 1
    for place, failure in texts.failed_requests() if texts else ():
        attempts[place] = max(attempts[place], failure.attempts)
        if wanted[place] and not failure.is_retried and not failure.is_mended:
            wanted[place] = False
            failed[failure.reason] = failed.get(failure.reason, 0) + 1
    return Plan(requests, int(at_hand.sum()), int(has.sum()), failed, wanted, attempts, texts)


def _canonical(cache: Cache, teacher: Source, index: DigestIndex) -> tuple[np.ndarray, np.ndarray]:
    """Return which keys of an index have a picture, (N,) bool, and the digests of the canonical ones, (N, 32)."""
    at_hand = np.zeros(len(index.digests), bool)
    pictures = np.zeros((len(index.digests), 32), np.uint8)
    for _, (keys, digests) in picture_digests(cache, teacher):
        rows = index.find(keys)
        rows, digests = rows[rows >= 0], digests[rows >= 0]
        better = ~at_hand[rows] | smaller_rows(digests, pictures[rows])
        pictures[rows[better]] = digests[better]
        at_hand[rows] = True
    return at_hand, pictures


def _have_feature(
    cache: Cache, teacher: Source, encoder: Source, index: DigestIndex, pictures: np.ndarray
) -> np.ndarray:
    """Return which keys of an index have a feature of their picture, (N,) bool; `pictures` (N, 32) are its digests."""
    found = np.zeros(len(index.digests), bool)
    for keys, digests in feature_digests(cache, teacher, encoder):
        rows = index.find(keys)
        found[rows[same_at(pictures, rows, digests)]] = True
    return found


def missing_features(cache: Cache, teacher: Source, encoder: Source, among: DigestIndex | None = None) -> pa.Table:
    """Return the stored pictures, or those whose keys are `among` an index, that have no feature: PLACE_COLUMNS.

    Only features that were computed from a key's canonical picture count.
    """
    images = canonical_pictures(cache, teacher)
    missing = ~has_feature(cache, teacher, encoder, images)
    if among is not None:
        missing &= among.find(from_column(images["image_key"])) >= 0
    return images.filter(pa.array(missing))


def has_feature(cache: Cache, teacher: Source, encoder: Source, images: pa.Table) -> np.ndarray:
    """Return which pictures (PLACE_COLUMNS), unique by key, have a feature in the cache: (N,) bool."""
    index = index_digests(from_column(images["image_key"]))
    return _have_feature(cache, teacher, encoder, index, from_column(images["image_sha256"]))


def batched(cache: Cache, teacher: Source, requests: Requests) -> int:
    """Return how many of some requests are in batches of this host whose results are not here yet: a plan counts them
    as calls, and a build does not make them again."""
    with open_existing_spool(cache) as spool:
        return batched_in(spool, teacher, requests) if spool else 0


def batched_in(spool: Spool, teacher: Source, requests: Requests) -> int:
    """Return how many of some requests are in batches that an open spool knows; see `batched`."""
    keys = keys_in_batches(spool, teacher.digest)
    return int((requests.index.find(from_hex(keys, "the spool")) >= 0).sum())


def expected_seconds(cache: Cache, teacher: Source, encoder: Source, plan: Plan) -> float | None:
    """Return how many seconds the plan's rewrites, calls and encodings take at the rates measured on this host; None
    if the rate of one of them has not been measured yet."""
    with open_existing_spool(cache) as spool:
        if spool is None:
            return None
        call = spool.seconds_per_row(f"teacher {teacher.name}")
        encoding = spool.seconds_per_row(f"encoder {encoder.name}")
        rewriting = spool.seconds_per_row(f"rewriter {plan.texts.rewriter.name}") if plan.texts else None
    work = ((plan.calls, call), (len(plan.requests) - plan.features_at_hand, encoding), (plan.rewrites, rewriting))
    if any(count and rate is None for count, rate in work):
        return None
    return float(sum(count * (rate or 0.0) for count, rate in work))


def spent_so_far(cache: Cache, teacher: Source) -> float:
    """Return the dollars that all calls for a teacher have cost, on all hosts as far as their commits are here."""
    with open_existing_spool(cache) as spool:
        return float(total_spent(cache, spool, teacher)[1])


def expected_price(cache: Cache, teacher: Source, price_usd: float | None, *, is_exact: bool = True) -> float | None:
    """Return the dollars that a request of this teacher is expected to cost; None if that is not known.

    It is what the cache's requests have cost so far, retries, time-outs and refusals included, if each picture has a
    cost. It is not less than an exact price: some of them may have been bought for less, by batch.
    """
    with open_existing_spool(cache) as spool:
        _, spent = total_spent(cache, spool, teacher)
        settled = sum(spool.count(teacher.digest, state) for state in ("drawn", "failed")) if spool else 0
    if not spent:
        return price_usd
    failed = cache.failures(teacher)["image_key"]
    columns = ["image_key", "cost_usd"] if len(failed) else ["cost_usd"]
    for _, table in cache.tables(f"images/{teacher.name}/", columns):
        if table["cost_usd"].null_count:
            return price_usd
        if len(failed):  # without those that were drawn later
            failed = failed.filter(pc.invert(pc.is_in(failed, table["image_key"].combine_chunks())))
        settled += table.num_rows
    settled += len(failed)
    paid = spent / settled if settled else spent
    return max(paid, price_usd) if is_exact and price_usd is not None else paid
