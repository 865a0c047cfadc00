"""The reader: a cache's features decoded once into one memory-mapped matrix beside its keys, and the join by key.

The matrix is kept on this machine under the digest of the shards it came from, written whole or not at all, and shared
by all processes. The join never invents a row: what isn't found is reported, not filled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.cache import Cache
from teacher_cache.columns import concat, counts, one_array
from teacher_cache.commits import Shard, tar_of
from teacher_cache.disk import full_disk_in_words
from teacher_cache.errors import CacheError, NoFileError, SpecError
from teacher_cache.keys import canonical_json, image_key, prompt_key, sha256
from teacher_cache.packaged import file_digest
from teacher_cache.shards import feature_matrix, read_npy
from teacher_cache.sources import Source


@dataclass(frozen=True)
class Features:
    """All sound features of one teacher and encoder. Row i of `matrix` (N, L) belongs to `keys[i]`."""

    teacher: Source
    encoder: Source
    keys: pa.Array  # image keys, unique
    image_sha256: pa.Array  # of the picture that each feature came from
    matrix: np.ndarray  # (N, L) float16 or float32, memory-mapped, read-only
    checksums: np.ndarray  # (N,) uint64, of each row as it was decoded

    def rows_of(self, prompts: Sequence[str], sample: int = 0) -> np.ndarray:
        """The matrix row of each prompt, (len(prompts),) int64; -1 where the cache has no feature for it."""
        digest = self.teacher.digest
        wanted = pa.array([image_key(digest, prompt_key(prompt), sample) for prompt in prompts], pa.string())
        rows: np.ndarray = pc.fill_null(pc.index_in(wanted, self.keys), -1).to_numpy().astype(np.int64)
        return rows

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The features of matrix rows, (len(rows), L), checked against their sums. Raises CacheError where the file
        was damaged since it was decoded."""
        features: np.ndarray = np.asarray(self.matrix[rows])
        if (row_sums(features) != self.checksums[rows]).any():
            where = getattr(self.matrix, "filename", "the decoded features")
            raise CacheError(f'{where}: rows differ from their checksums; run "armada cache verify --repair"')
        return features


def row_sums(features: np.ndarray) -> np.ndarray:
    """A checksum a row, (N,) uint64: the sum of its bits, two bytes at a time."""
    halves = np.ascontiguousarray(features).view(np.uint16)
    sums: np.ndarray = halves.sum(axis=1, dtype=np.uint64)
    return sums


def is_whole(folder: Path) -> bool:
    """Whether a decoded matrix and its keys are as they were written."""
    files = [folder / name for name in ("digest", "features.npy", "keys.arrow")]
    return all(file.exists() for file in files) and files[0].read_text() == _folder_digest(folder)


def _folder_digest(folder: Path) -> str:
    return file_digest(folder / "features.npy") + file_digest(folder / "keys.arrow")


def choose(cache: Cache, teacher: str | None, encoder: str | None) -> tuple[Source, Source]:
    """The teacher and encoder that digests name, or the only ones that the cache has. Raises SpecError."""
    chosen = _one(cache.teachers(), teacher, "teacher", str(cache.store))
    return chosen, _one(cache.encoders(chosen), encoder, "encoder", f"{cache.store} of teacher {chosen.name}")


def _one(sources: Sequence[Source], digest: str | None, noun: str, where: str) -> Source:
    found = [source for source in sources if digest in (None, source.digest)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(source.name for source in sources) or "none"
    if found:
        raise SpecError(f"{where}: has several {noun}s ({names}); name one by --{noun} SPEC")
    raise SpecError(f"{where}: expected the {noun} {noun}-{(digest or 'any')[:16]}, found: {names}; build it first")


def open_features(cache: Cache, teacher: Source, encoder: Source, *, tries: int = 3) -> Features:
    """Decode, once a set of shards, and map. Every shard's digest is checked when it is decoded.

    Features that stand beside another picture than the one that counts are left out. Raises CacheError for a damaged
    shard or a wrong dimension; the rows of a missing shard are missing.
    """
    found = cache.tables(f"features/{teacher.name}/{encoder.name}/shards/", ["image_key"])
    shards = [shard for shard, _ in found]
    images = cache.images(teacher, [])
    identity = canonical_json(
        [teacher.digest, encoder.digest, [shard.sha256 for shard in shards], _fingerprint(images)]
    )
    folder = cache.machine_folder / "matrices" / sha256(identity)[:32]
    if not (folder / "keys.arrow").exists() or not (folder / "features.npy").exists():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _decode(cache, shards, images, encoder, folder)
        except NoFileError:  # removed since it was listed: someone compacted
            if tries == 1:
                raise
            return open_features(cache, teacher, encoder, tries=tries - 1)
    with pa.memory_map(str(folder / "keys.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    matrix = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    if len(matrix) != table.num_rows:
        raise CacheError(f"{folder}: expected {table.num_rows} features, found {len(matrix)}; remove the folder")
    keys, digests, sums = (one_array(table[name]) for name in ("image_key", "image_sha256", "checksum"))
    return Features(teacher, encoder, keys, digests, matrix, sums.to_numpy())


def _fingerprint(images: pa.Table) -> str:
    pairs = pc.binary_join_element_wise(images["image_key"], images["image_sha256"], "/").to_pylist()
    return sha256("\n".join(sorted(pairs)).encode("ascii"))


def _decode(cache: Cache, shards: Sequence[Shard], images: pa.Table, encoder: Source, folder: Path) -> None:
    dimension = encoder.spec.get("dimension")
    seen = pa.array([], pa.string())
    parts: list[tuple[pa.Table, np.ndarray]] = []
    for shard in shards:
        table = cache.table(shard)
        if table is None:
            raise NoFileError(f"{cache.store}/{shard.path}: no such file; run the build again to fill the gap")
        matrix = _sample_features(cache, shard, table) if tar_of(shard.path) else feature_matrix(table["feature"])
        if dimension is not None and matrix.shape[1] != dimension:
            where = f"{cache.store}/{shard.path}"
            raise CacheError(f"{where}: expected features of {dimension} numbers, found {matrix.shape[1]}")
        winner = pc.take(images["image_sha256"], pc.index_in(table["image_key"], one_array(images["image_key"])))
        counts = pc.fill_null(pc.equal(winner, table["image_sha256"]), True)  # pictures may stay elsewhere
        counts = pc.and_(counts, pc.invert(pc.is_in(table["image_key"], seen)))
        keep = np.flatnonzero(counts.to_numpy(zero_copy_only=False))
        kept = table.select(["image_key", "image_sha256"]).take(keep)
        seen = pa.concat_arrays([seen, *kept["image_key"].chunks])
        parts.append((kept, matrix[keep]))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        with full_disk_in_words(str(folder.parent)):
            _write(draft, parts, int(dimension or 0))
        if not folder.exists():
            draft.rename(folder)
    except OSError:
        if not folder.exists():  # else another process finished the same matrix first
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sample_features(cache: Cache, shard: Shard, index: pa.Table) -> np.ndarray:
    """(N, L), out of the .npy members of a tar of samples."""
    vectors = []
    tar = next(other for other in cache.shards(tar_of(shard.path)))
    with cache.store.open(tar.path) as stream:
        if sha256(stream.read()) != tar.sha256:
            raise CacheError(f"{cache.store}/{tar.path}: sha256 differs from the commit's")
        for row in index.select(["feature_offset", "feature_bytes"]).to_pylist():
            stream.seek(row["feature_offset"])
            vectors.append(read_npy(stream.read(row["feature_bytes"])))
    return np.stack(vectors)


def _write(draft: Path, parts: Sequence[tuple[pa.Table, np.ndarray]], dimension: int) -> None:
    schema = pa.schema([("image_key", pa.string()), ("image_sha256", pa.string())])
    keys = concat([part[0] for part in parts], schema)
    shape = (keys.num_rows, parts[0][1].shape[1] if parts else dimension)
    dtype = parts[0][1].dtype if parts else np.dtype(np.float16)
    matrix = np.lib.format.open_memmap(draft / "features.npy", mode="w+", dtype=dtype, shape=shape)
    sums = [np.empty(0, np.uint64)]
    start = 0
    for _, part in parts:
        matrix[start : start + len(part)] = part
        sums.append(row_sums(part))
        start += len(part)
    matrix.flush()
    table = keys.append_column("checksum", pa.array(np.concatenate(sums))).combine_chunks()
    with pa.OSFile(str(draft / "keys.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    (draft / "digest").write_text(_folder_digest(draft))


def failure_reasons(cache: Cache, teacher: Source, prompts: Sequence[str]) -> Mapping[str, int]:
    """Known failures of these prompts, by reason."""
    failures = cache.failures(teacher)
    keys = pa.array([image_key(teacher.digest, prompt_key(prompt)) for prompt in prompts], pa.string())
    found = failures.filter(pc.is_in(failures["image_key"], keys))
    return counts(found["reason"])
