"""The background work of a build: one thread seals drawn pictures, another encodes sealed ones, so that no call waits
for a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from teacher_cache.building.encoding import Encoded, encode
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.other_hosts import OtherHosts
from teacher_cache.building.plan import missing_features
from teacher_cache.building.sealing import seal
from teacher_cache.building.spool_opening import spent_elsewhere
from teacher_cache.encoders import Encoder, source_of_encoder
from teacher_cache.errors import NoFileError
from teacher_cache.format.digests import DigestIndex
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import index_rows
from teacher_cache.storage.samples import samples_folder, write_missing_samples

_TRIES = 3


@dataclass
class Background:
    """Seals and encodes on two threads; use it as a context manager, which waits for them."""

    cache: Cache
    spool: Spool
    teacher_source: Source
    encoder: Encoder
    options: BuildOptions
    provenance: Provenance
    stop: Callable[[], bool]
    total: Encoded = field(default_factory=Encoded)
    spent_elsewhere: tuple[int, float] = (0, 0.0)  # calls and dollars of other ledgers, as of the last seal
    _sealer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _encoder: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _seals: list[Future[None]] = field(default_factory=list)
    _encodings: list[Future[Encoded]] = field(default_factory=list)

    def __enter__(self) -> Background:
        self.others.start()
        self._count_elsewhere()
        return self

    def __exit__(self, *_: object) -> None:
        self._sealer.shutdown()
        self._encoder.shutdown()

    @cached_property
    def others(self) -> OtherHosts:
        """What other hosts have committed since the plan, as of the last seal."""
        return OtherHosts(self.cache, self.teacher_source, self.spool.token)

    @property
    def is_sealing(self) -> bool:
        """Whether a seal is running or queued."""
        return bool(self._seals) and not self._seals[-1].done()

    def seal(self) -> None:
        """Start to seal all drawn pictures and to encode them. Raises the error of an earlier seal or encoding, if
        there was one."""
        tasks: list[Future[Any]] = [*self._seals, *self._encodings]
        for task in tasks:
            if task.done():
                task.result()
        self._seals.append(self._sealer.submit(self._seal))

    def finish(self, requested: DigestIndex) -> Encoded:
        """Wait for the threads, encode the pictures of the requested keys that still have no feature, and return the
        totals. Raises the error of a seal or an encoding, if there was one."""
        for sealed in self._seals:
            sealed.result()
        for encoded in self._encodings:
            self.total.add(encoded.result())
        if not self.stop():
            self.total.refused = 0  # pictures whose feature was refused are missing, and counted again below
            self._encode_missing(requested)
        return self.total

    def _count_elsewhere(self) -> None:
        """Count what other ledgers have spent for the teacher, according to the commits that are here now."""
        if self.options.max_calls is not None or self.options.budget_usd is not None:
            self.cache.refresh()
            self.spent_elsewhere = spent_elsewhere(self.cache, self.spool, self.teacher_source)

    def _encode_missing(self, requested: DigestIndex) -> None:
        """Encode the requested pictures without a feature. If a vacuum removes their tars meanwhile, plan again."""
        encoder = source_of_encoder(self.encoder)
        for tries in range(_TRIES, 0, -1):
            self.cache.refresh()
            try:
                missing = missing_features(self.cache, self.teacher_source, encoder, requested)
                rows = index_rows(self.cache, missing, self.options.shard_rows, self.options.shard_bytes)
                self.total.add(self._encode(rows, missing.num_rows))
                break
            except NoFileError:
                if tries == 1:
                    raise
        if self.options.format == "webdataset":
            folder = samples_folder(self.teacher_source, encoder)
            write_missing_samples(self.cache, self.teacher_source, encoder, self.cache.store, folder)

    def _seal(self) -> None:
        for index in seal(self.cache, self.spool, self.teacher_source, self.options, self.provenance):
            self._encodings.append(self._encoder.submit(self._encode_sealed, index))
        self.others.look()
        self._count_elsewhere()

    def _encode_sealed(self, index: pa.Table) -> Encoded:
        try:
            return self._encode([index], index.num_rows)
        except NoFileError:
            return Encoded()  # another process compacted and vacuumed the cache; `finish` encodes these pictures

    def _encode(self, parts: Iterable[pa.Table], total: int) -> Encoded:
        return encode(
            self.cache,
            self.teacher_source,
            self.encoder,
            parts,
            total,
            provenance=self.provenance,
            stop=self.stop,
            format=self.options.format,
        )
