"""The reader: open the features of a cache and find them by prompt or image key.

Features are decoded once per set of shards, and shared by all processes of this machine. A key without a feature is
reported as missing, never filled; a damaged feature is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.errors import CacheError, NoFileError, NotBuiltError, SpecError
from teacher_cache.format.arrow import counts
from teacher_cache.format.digests import from_hex, to_hex
from teacher_cache.format.sources import Source, spec_to_type
from teacher_cache.keys import image_key, prompt_key
from teacher_cache.reading.decoding import decode
from teacher_cache.reading.fetching import clear
from teacher_cache.reading.key_table import KEY, PICTURE, KeyTable, row_sums
from teacher_cache.reading.mapped_rows import MappedRows
from teacher_cache.reading.matrix_store import Lease, acquire
from teacher_cache.reading.rows import FeatureRows
from teacher_cache.reading.shard_rows import ShardRows
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import Snapshot, take_snapshot

_ROW_BYTES = 96  # of the key table and the checksums, per row
_BLOCK = 1 << 16  # rows checked at once


@dataclass(frozen=True)
class Features:
    """The canonical features of one teacher and encoder, as they were when they were opened.

    Row i of `rows` (N, L) belongs to the image key and picture digest in `table.facts[i]`.
    """

    teacher: Source
    encoder: Source
    table: KeyTable
    rows: FeatureRows

    def __len__(self) -> int:
        return len(self.table.facts)

    @property
    def matrix(self) -> np.ndarray:
        """The mapped matrix (N, L), read-only and unchecked: prefer `take`. Raises CacheError if the features are read
        in windows."""
        if not isinstance(self.rows, MappedRows):
            raise CacheError(f"{self.table.where}: features are read in windows, so there is no matrix; use take()")
        return self.rows.matrix

    @cached_property
    def keys(self) -> pa.Array:
        """The image keys (N,), in hexadecimal."""
        return pa.array(to_hex(self.table.checked(np.arange(len(self)))[:, KEY]), pa.string())

    @cached_property
    def image_sha256(self) -> pa.Array:
        """The SHA-256 (N,) of the picture that each feature was computed from, in hexadecimal."""
        return pa.array(self.pictures_of(np.arange(len(self))), pa.string())

    def rows_of(self, prompts: Sequence[str], sample: int = 0) -> np.ndarray:
        """Return the row of each prompt, (len(prompts),) int64; -1 if the cache has no feature for it."""
        digest = self.teacher.digest
        return self.rows_of_keys([image_key(digest, prompt_key(prompt), sample) for prompt in prompts])

    def rows_of_keys(self, keys: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
        """Return the row of each image key (hexadecimal), (len(keys),) int64; -1 for a key that has none."""
        return self.table.find(from_hex(keys, "image keys"))

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the features (len(rows), L) of rows, checked against their checksums. Raises CacheError if one is
        damaged."""
        return self.rows.take(rows, out)

    def keys_of(self, rows: np.ndarray) -> list[str]:
        """Return the image keys of rows, in hexadecimal."""
        return to_hex(self.table.checked(rows)[:, KEY])

    def pictures_of(self, rows: np.ndarray) -> list[str]:
        """Return the SHA-256 of the picture that each row's feature was computed from, in hexadecimal."""
        return to_hex(self.table.checked(rows)[:, PICTURE])


def choose(cache: Cache, teacher: str | None, encoder: str | None) -> tuple[Source, Source]:
    """Return the teacher and the encoder with the given digests; None selects the only one that the cache has.

    An encoder of the prompts' texts is a control: beside one encoder of pictures it has to be named.

    Raises NotBuiltError if there is none, SpecError if there is more than one and no digest.
    """
    chosen = _select(cache.teachers(), teacher, "teacher", str(cache.store))
    encoders = cache.encoders(chosen)
    if encoder is None:
        encoders = [source for source in encoders if source.spec.get("kind") != "text"] or encoders
    return chosen, _select(encoders, encoder, "encoder", f"{cache.store} of teacher {chosen.name}")


def _select(sources: Sequence[Source], digest: str | None, noun: str, where: str) -> Source:
    found = [source for source in sources if digest in (None, source.digest)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(source.name for source in sources) or "none"
    if found:
        typed = " or ".join(f"--{noun} {spec_to_type(source)}" for source in sources)
        raise SpecError(f"{where}: has several {noun}s ({names}); choose one with {typed}")
    raise NotBuiltError(f"{where}: expected the {noun} {noun}-{(digest or 'any')[:16]}, found: {names}; build it first")


def open_features(
    cache: Cache, teacher: Source, encoder: Source, *, max_local_bytes: int | None = None, tries: int = 3
) -> Features:
    """Open the features that the cache has now, and decode them first if no process of this machine has done so.

    Only features of canonical pictures are included, and the rows of a missing shard are missing.

    Args:
        cache: The cache.
        teacher: The source of the pictures.
        encoder: The source of the features.
        max_local_bytes: If the decoded matrix is larger, it is not stored: only the key table is, and features are
            read from the shards, in windows.
        tries: How often to take a new snapshot if another process removes a shard meanwhile.

    Raises CacheError if a shard is damaged, its features have another shape than the encoder's, or the matrix is larger
    than ARMADA_MATRIX_BYTES; NoFileError if shards were removed at each try.
    """
    snapshot = take_snapshot(cache, teacher, encoder)
    size = snapshot.rows * (snapshot.dimension * snapshot.dtype.itemsize + _ROW_BYTES)
    mapped = max_local_bytes is None or size <= max_local_bytes
    home = cache.derived_folder / "matrices"
    fetched = cache.derived_folder / "fetched" if mapped else None
    name, size = (snapshot.digest, size) if mapped else (f"{snapshot.digest}-keys", snapshot.rows * _ROW_BYTES)
    for _ in range(2):
        try:
            lease = acquire(
                home, name, size, lambda draft: decode(cache, snapshot, draft, fetched, keep_features=mapped)
            )
            if fetched:
                clear(fetched, [*snapshot.features, *snapshot.indexes])
        except NoFileError:  # a shard was removed after it was listed: another process compacted the cache
            if tries == 1:
                raise
            return open_features(cache, teacher, encoder, max_local_bytes=max_local_bytes, tries=tries - 1)
        try:
            return _map(cache, snapshot, lease, mapped)
        except ValueError:
            lease.set_aside()  # a file is missing or truncated
    raise CacheError(f"{home / name}: cannot be read although it was just decoded; check the disk")


def _map(cache: Cache, snapshot: Snapshot, lease: Lease, mapped: bool) -> Features:
    """Map the files of a decoded folder. Raises ValueError if they are not as `decode` wrote them."""
    array = partial(_array, lease.path)
    table = KeyTable(array("facts"), array("fact_sums"), array("prefixes"), array("order"), str(lease.path))
    sums = array("feature_sums")
    rows: FeatureRows
    if mapped:
        rows = MappedRows(array("features"), sums, lease)
    else:

        def reopen() -> tuple[KeyTable, FeatureRows]:
            features = open_features(cache, snapshot.teacher, snapshot.encoder, max_local_bytes=0)
            return features.table, features.rows

        rows = ShardRows(cache, snapshot, table, sums, array("sound"), array("places"), reopen, lease)
    shape = (len(table.facts), snapshot.dimension)
    if rows.shape != shape or rows.dtype != snapshot.dtype or len(rows.sums) != shape[0]:
        raise ValueError("the files do not belong together")
    return Features(snapshot.teacher, snapshot.encoder, table, rows)


def _array(folder: Path, name: str) -> np.ndarray:
    """Map an array. Raises ValueError if the file is missing, truncated or no array."""
    try:
        array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array
    except Exception as error:  # numpy parses a damaged header with Python's tokenizer, which raises its own errors
        raise ValueError(f"{folder / name}.npy: expected an array") from error


def is_whole(folder: Path) -> bool:
    """Return whether a decoded matrix, its keys and its checksums are undamaged."""
    try:
        facts, fact_sums, prefixes, order, sums = (
            _array(folder, name) for name in ("facts", "fact_sums", "prefixes", "order", "feature_sums")
        )
        if not KeyTable(facts, fact_sums, prefixes, order, str(folder)).is_whole() or len(sums) != len(facts):
            return False
        if folder.name.endswith("-keys"):
            return True
        matrix = _array(folder, "features")
        parts = (slice(start, start + _BLOCK) for start in range(0, len(sums), _BLOCK))
        return len(matrix) == len(sums) and all((row_sums(matrix[part]) == sums[part]).all() for part in parts)
    except ValueError:
        return False


def failure_reasons(cache: Cache, teacher: Source, prompts: Sequence[str], samples: int = 1) -> Mapping[str, int]:
    """Return how many of the first `samples` pictures of each prompt have failed, by reason."""
    failures = cache.failures(teacher)
    wanted = [image_key(teacher.digest, prompt_key(prompt), sample) for prompt in prompts for sample in range(samples)]
    found = failures.filter(pc.is_in(failures["image_key"], pa.array(wanted, pa.string())))
    return counts(found["reason"])
