"""Sealing: what the spool holds becomes shards, and the shards are committed. Several builds take turns.

A kill between the commit and the spool's cleaning repeats nothing: rows that the cache has are only dropped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.building.encoding import Encoded, encode_pictures
from teacher_cache.building.spool import Spool, SpoolRow
from teacher_cache.encoders import Encoder, dtype_of, source_of_encoder
from teacher_cache.format.arrow import one_array
from teacher_cache.format.commits import Provenance
from teacher_cache.format.shards import FAILURE_COLUMNS, ImageRow, is_sound
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.writing import commit_pictures, commit_samples


def seal(
    cache: Cache, spool: Spool, teacher: Source, shard_rows: int, provenance: Provenance, *, again: bool = False
) -> list[pa.Table]:
    """Move what the spool holds for a teacher into shards and commit them. Returns the indexes of the new pictures.

    With `again`, rows that are in the cache already are only dropped: their build was killed after its commit.
    """
    indexes = []
    with spool.sealing:
        known = one_array(cache.images(teacher, [])["image_key"]) if again else pa.array([], pa.string())
        for rows in _batches(spool, teacher, "drawn", shard_rows):
            there = pc.is_in(pa.array([row.image_key for row in rows]), known).to_pylist()
            fresh = [row for row, is_there in zip(rows, there, strict=True) if not is_there]
            if fresh:
                pictures = spool.pictures([row.image_key for row in fresh])
                indexes.append(
                    commit_pictures(cache, teacher, [_image_row(row) for row in fresh], pictures, provenance)
                )
            spool.mark_sealed([row.image_key for row in rows])
        _seal_failures(cache, spool, teacher, shard_rows, provenance)
    return indexes


def seal_samples(
    cache: Cache, spool: Spool, teacher: Source, encoder: Encoder, shard_rows: int, provenance: Provenance
) -> Encoded:
    """The same for `--format webdataset`: encode from the spool, so that a picture is written once, beside its feature.

    A picture whose feature is refused goes into a tar of pictures.
    """
    done = Encoded()
    started = time.monotonic()
    with spool.sealing:
        for rows in _batches(spool, teacher, "drawn", shard_rows):
            keys = [row.image_key for row in rows]
            parts = encode_pictures(encoder, spool.pictures(keys), [row.prompt for row in rows])
            features = np.concatenate(list(parts))
            sound = is_sound(features, dtype_of(encoder))
            facts = [_image_row(row) for row in rows]
            for kept, vectors in ((sound, features[sound]), (~sound, None)):
                chosen = [fact for fact, keep in zip(facts, kept, strict=True) if keep]
                pictures = spool.pictures([fact.image_key for fact in chosen])
                if chosen and vectors is not None:
                    commit_samples(cache, teacher, source_of_encoder(encoder), chosen, pictures, vectors, provenance)
                elif chosen:
                    commit_pictures(cache, teacher, chosen, pictures, provenance)
            done.add(Encoded(int(sound.sum()), int((~sound).sum())))
            spool.mark_sealed(keys)
        done.seconds = time.monotonic() - started
        _seal_failures(cache, spool, teacher, shard_rows, provenance)
    return done


def _seal_failures(cache: Cache, spool: Spool, teacher: Source, shard_rows: int, provenance: Provenance) -> None:
    for rows in _batches(spool, teacher, "failed", shard_rows):
        columns = [{name: getattr(row, name) for name in FAILURE_COLUMNS.names} for row in rows]
        table = pa.Table.from_pylist(columns, schema=FAILURE_COLUMNS)
        cache.commit([cache.write_shard(f"failures/{teacher.name}", table)], **provenance.now())
        spool.mark_sealed([row.image_key for row in rows])


def _batches(spool: Spool, teacher: Source, state: str, shard_rows: int) -> Iterator[list[SpoolRow]]:
    """What waits now, a shard's rows at a time; what comes meanwhile is for the next seal, else shards were tiny."""
    while rows := spool.waiting(teacher.digest, state, shard_rows):
        yield rows
        if len(rows) < shard_rows:
            return


def _image_row(row: SpoolRow) -> ImageRow:
    return ImageRow(
        image_key=row.image_key,
        prompt_key=row.prompt_key,
        prompt=row.prompt,
        sample=row.sample,
        image_sha256=row.sha256,
        suffix=row.suffix,
        cost_usd=row.cost_usd,
        seconds=row.seconds,
        attempts=row.attempts,
    )
