"""The configurations of a cache for `datasets` and the Hub's viewer: one for its pictures, one for each encoder.

`datasets` reads all configurations of a folder by one reader: those of a cache's root are Parquet, and the folder of a
teacher has a card of its own, whose rows are the samples of its tars.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow.compute as pc

from teacher_cache.format.columns import DRAWN_PROMPT
from teacher_cache.format.recipes import recipe_of
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import Cache

PICTURES = "pictures"
VIEWER = "viewer"  # the folder of the pictures as Parquet, which a push to a dataset repository adds
_FACTS = {  # the types of the facts beside a picture, as `format.shards.write_samples` writes them
    "attempts": "int64",
    "cost_usd": "float64",
    "image_sha256": "string",
    "prompt": "string",
    "prompt_key": "string",
    "sample": "int64",
    "seconds": "float64",
}
_NAMES = ("__key__", "__url__")  # what a reader of WebDataset adds: the image key and the tar


def root_configs(cache: Cache, viewer: str | list[str] = "") -> dict[str, Any]:
    """Return `configs` for the front matter of a cache's card: one for each encoder, and one for the pictures if
    `viewer`, the files with them as Parquet or their pattern, is given.

    Shards that were replaced and still exist are in no configuration: then the files that count are named one by one.
    """
    configs: list[dict[str, Any]] = []
    if viewer:
        configs.append({"config_name": PICTURES, "data_files": viewer, "default": True})
    shards: dict[str, list[str]] = defaultdict(list)
    for shard in cache.shards("features/"):
        shards[shard.path.split("/")[2]].append(shard.path)
    for encoder in sorted(shards):
        pattern = f"features/*/{encoder}/shards/*.parquet"
        configs.append({"config_name": encoder, "data_files": _files(cache, shards[encoder], pattern)})
    return {"configs": configs} if configs else {}


def picture_configs(cache: Cache, teacher: Source) -> dict[str, Any]:
    """Return `configs` and `dataset_info` for the card in the folder of a teacher; without tars, nothing.

    Each format of pictures is a column of images.
    """
    folder = f"images/{teacher.name}/"
    tars = [shard.path for shard in cache.shards(folder) if shard.path not in cache.state.left_out]
    if not tars:
        return {}
    files = _files(cache, tars, f"{folder}shards/*.tar")
    relative = files.removeprefix(folder) if isinstance(files, str) else [path.removeprefix(folder) for path in files]
    suffixes = pc.unique(cache.images(teacher, ["suffix"])["suffix"]).to_pylist()
    facts = _FACTS | ({DRAWN_PROMPT.name: "string"} if recipe_of(teacher) else {})
    columns: list[dict[str, Any]] = [
        {"name": "json", "struct": [{"name": name, "dtype": facts[name]} for name in sorted(facts)]}
    ]
    columns += [{"name": suffix, "dtype": "image"} for suffix in sorted(suffixes)]
    columns += [{"name": name, "dtype": "string"} for name in _NAMES]
    return {
        "configs": [{"config_name": PICTURES, "data_files": relative}],
        "dataset_info": {"config_name": PICTURES, "features": columns},
    }


def _files(cache: Cache, paths: list[str], pattern: str) -> str | list[str]:
    folders = {path.rpartition("/")[0] for path in paths}
    replaced = any(path.rpartition("/")[0] in folders for path in cache.state.replaced_files())
    return paths if replaced else pattern
