"""Recomputation: encode and, if the teacher is deterministic, draw some stored rows again, and compare them.

Only teachers and encoders that the user names are opened. Their calls are in the ledger, like those of a build.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from teacher_cache.building.answers import check_answer
from teacher_cache.building.encoding import encode_pictures
from teacher_cache.building.spool_opening import open_spool, settle
from teacher_cache.encoders import Encoder, source_of_encoder
from teacher_cache.errors import ArmadaError, CacheError
from teacher_cache.format.columns import DRAWN_PROMPT, IMAGE_COLUMNS
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source, spec_to_type
from teacher_cache.keys import seed_of, sha256
from teacher_cache.reading.reader import open_features
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import in_tar_order, read_pictures
from teacher_cache.teachers import Picture, Request, Teacher, source_of_teacher

TOLERANCE = 5e-3  # relative to a feature's largest number; float16 rounding takes a tenth of it, another batch less


@dataclass(frozen=True)
class Recomputed:
    """How many rows of a source were computed again (`asked`), and how many of them differ.

    `largest_difference` is relative to a feature's largest number. `skipped` is the reason if no row was computed.
    """

    source: str
    asked: int
    differing: int
    largest_difference: float | None = None
    skipped: str = ""


def recompute(
    cache: Cache, count: int, teachers: Sequence[Teacher] = (), encoders: Sequence[Encoder] = (), *, seed: int = 0
) -> list[Recomputed]:
    """Compute `count` random pictures of each teacher, chosen by `seed`, and their features again.

    Only sources that are among `teachers` and `encoders` are computed again. Return one entry per teacher and one per
    encoder of the cache. Raise ArmadaError if none of them is named, CacheError if a stored row is damaged.
    """
    opened_teachers = {source_of_teacher(teacher).digest: teacher for teacher in teachers}
    opened_encoders = {source_of_encoder(encoder).digest: encoder for encoder in encoders}
    stored = [(teacher, cache.encoders(teacher)) for teacher in cache.teachers()]
    known = {source.digest for teacher, by in stored for source in (teacher, *by)}
    if known and not known & {*opened_teachers, *opened_encoders}:
        teacher, by = stored[0]
        command = f"armada cache verify {shlex.quote(str(cache.store))} --recompute {count}"
        named = [f"--teacher {spec_to_type(teacher)}", *(f"--encoder {spec_to_type(encoder)}" for encoder in by)]
        raise ArmadaError(
            f"{cache.store}: --recompute: name the teacher or the encoders to open; the cache's own files say, and "
            f"only you can judge: {' '.join([command, *named])}"
        )
    results = []
    for teacher, by in stored:
        images = cache.images(teacher, [*IMAGE_COLUMNS.names, "path", DRAWN_PROMPT.name])
        chosen = np.random.default_rng(seed).permutation(images.num_rows)[:count]
        rows = in_tar_order(images.take(pa.array(chosen)))
        if rows.num_rows:
            results.append(_redraw(cache, teacher, opened_teachers.get(teacher.digest), rows))
            results += [_reencode(cache, teacher, source, opened_encoders.get(source.digest), rows) for source in by]
    return results


def _redraw(cache: Cache, source: Source, teacher: Teacher | None, rows: pa.Table) -> Recomputed:
    if teacher is None:
        return Recomputed(source.name, 0, 0, skipped=f"not named: add --teacher {spec_to_type(source)}")
    if not getattr(teacher, "deterministic", False):
        return Recomputed(source.name, 0, 0, skipped="the teacher isn't deterministic, or doesn't say so")
    expected = dict(zip(rows["image_key"].to_pylist(), rows["image_sha256"].to_pylist(), strict=True))
    columns = rows.select(["image_key", "prompt", "sample", "drawn_prompt"]).to_pylist()
    requests = [
        Request(row["image_key"], row["drawn_prompt"] or row["prompt"], row["sample"], seed_of(row["image_key"]))
        for row in columns
    ]
    same: set[str] = set()
    with open_spool(cache) as spool:
        try:
            for given in teacher.draw(_noted(spool, source, teacher.price_usd, requests)):
                answer = check_answer(given, source.name)
                spool.note_cost(answer)
                if isinstance(answer, Picture) and sha256(answer.data) == expected.get(answer.image_key):
                    same.add(answer.image_key)
        finally:
            with contextlib.suppress(CacheError):  # a cache that can't be written to: the next build here commits it
                settle(cache, spool, Provenance(time.time, "recomputation"))
    return Recomputed(source.name, len(requests), len(requests) - len(same))


def _noted(spool: Spool, source: Source, price_usd: float | None, requests: Sequence[Request]) -> Iterator[Request]:
    """Yield the requests; each is in the ledger before it is sent."""
    for request in requests:
        spool.note_call(source.digest, request.image_key, price_usd)
        yield request


def _reencode(cache: Cache, teacher: Source, source: Source, encoder: Encoder | None, rows: pa.Table) -> Recomputed:
    if encoder is None:
        return Recomputed(source.name, 0, 0, skipped=f"not named: add --encoder {spec_to_type(source)}")
    features = open_features(cache, teacher, source)
    places = features.rows_of_keys(rows["image_key"])
    rows = rows.filter(pa.array(places >= 0))
    stored = features.take(places[places >= 0]).astype(np.float32)
    if not rows.num_rows:
        return Recomputed(source.name, 0, 0, skipped="none of these pictures has a feature")
    again = np.concatenate(list(encode_pictures(encoder, read_pictures(cache, rows), rows["prompt"].to_pylist())))
    difference = np.abs(again - stored).max(axis=1) / np.abs(stored).max(axis=1)  # (N,)
    return Recomputed(source.name, rows.num_rows, int((difference > TOLERANCE).sum()), float(difference.max()))
