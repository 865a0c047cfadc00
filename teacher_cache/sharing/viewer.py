"""Pictures beside their prompts as Parquet, for the viewer of a dataset repository: derived, and no part of the cache.

The bytes of the pictures are the same as in the tars, which the Hub stores once where it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from teacher_cache.files.store import Store
from teacher_cache.format.commits import Shard
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import in_tar_order, read_pictures
from teacher_cache.storage.viewer_configs import VIEWER

_GROUP_ROWS = 100  # rows per row group, of which a viewer reads one at a time


@contextmanager
def viewer_files(cache: Cache, target: Store) -> Iterator[list[tuple[Path, str]]]:
    """Yield, for each tar of a cache, the file with its pictures that the target lacks: a local path and its name.

    The files exist until the block ends. Raise CacheError if a tar is damaged or missing.
    """
    with target.draft() as place:
        files: list[tuple[Path, str]] = []
        shards = {_viewer_path(shard): shard for shard in cache.shards("images/")}
        for name in shards.keys() - _there(shards, target):
            path, shard = place.with_name(f"viewer-{len(files)}"), shards[name]
            rows = cache.table(shard).append_column("path", pa.repeat(shard.path, shard.rows))
            _write(path, cache, in_tar_order(rows))
            files.append((path, name))
        yield files


def viewer_data_files(cache: Cache, target: Store) -> str | list[str]:
    """Return which files the viewer is to show: those of the tars that count. If there are no others, a pattern."""
    names = [_viewer_path(shard) for shard in cache.shards("images/")]
    return names if _there(names, target) - set(names) else f"{VIEWER}/*/*.parquet"


def _viewer_path(shard: Shard) -> str:
    _, teacher, _, name = shard.path.split("/")
    return f"{VIEWER}/{teacher}/{name.removesuffix('.tar')}.parquet"


def _there(names: Iterable[str], target: Store) -> set[str]:
    """Return the files that the target has in the folders of some files."""
    folders = {name.rpartition("/")[0] for name in names}
    return {f"{folder}/{name}" for folder in folders for name in target.sizes(folder)}


def _write(path: Path, cache: Cache, rows: pa.Table) -> None:
    import datasets

    names = ("prompt", "image_key", "sample")
    features = datasets.Features(
        {"image": datasets.Image(), **{name: datasets.Value(str(rows.schema.field(name).type)) for name in names}}
    )
    pictures = [
        {"bytes": data, "path": f"{key}.{suffix}"}
        for data, key, suffix in zip(
            read_pictures(cache, rows), rows["image_key"].to_pylist(), rows["suffix"].to_pylist(), strict=True
        )
    ]
    columns = [pa.array(pictures, features.arrow_schema.field("image").type), *(rows[name] for name in names)]
    parquet.write_table(
        pa.table(columns, schema=features.arrow_schema), path, row_group_size=_GROUP_ROWS, compression="none"
    )
