"""The peers of readers.py: other libraries that read the same rows.

Each writes the rows in its own format, opens them, and returns an epoch's batches as torch tensors, shuffled as its
documentation recommends. A library that isn't installed raises ImportError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 1024
SHARD_ROWS = 8192
BUFFER = 16_384  # size of webdataset's shuffle buffer, in rows
Epoch = Callable[[int], Iterator[Any]]


def webdataset(folder: Path, matrix: np.ndarray) -> Epoch:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=SHARD_ROWS, verbose=0) as writer:
        for number, row in enumerate(matrix):
            writer.write({"__key__": f"{number:08d}", "npy": row})
    urls = sorted(str(path) for path in folder.glob("*.tar"))

    data = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
    rows = data.shuffle(BUFFER).decode().to_tuple("npy").batched(BATCH)
    return lambda number: (torch.from_numpy(np.asarray(batch[0])) for batch in rows)


def mosaicml(folder: Path, matrix: np.ndarray) -> Epoch:
    import streaming
    from torch.utils.data import DataLoader

    with streaming.MDSWriter(out=str(folder), columns={"feature": f"ndarray:float16:{matrix.shape[1]}"}) as writer:
        for row in matrix:
            writer.write({"feature": row})

    streaming.base.util.clean_stale_shared_memory()
    loader = DataLoader(streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH), batch_size=BATCH)
    return lambda number: (batch["feature"] for batch in loader)


class _TorchRow:
    """Returns a row for LitData, which pickles the object that writes."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix

    def __call__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self._matrix[number])


def litdata(folder: Path, matrix: np.ndarray) -> Epoch:
    import litdata
    from litdata.streaming.cache import Cache as Writer

    folder.mkdir()
    writer = Writer(input_dir=str(folder), chunk_bytes="8MB")  # what litdata.optimize uses, without its processes
    row = _TorchRow(matrix)
    for number in range(len(matrix)):
        writer[number] = row(number)
    writer.done()
    writer.merge()

    one_row = {"batch_decode": "item"}  # its default decodes windows of rows and drops them: eight times slower
    data = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False, **one_row)
    loader = litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=0)
    return lambda number: iter(loader)


def datasets(folder: Path, matrix: np.ndarray) -> Epoch:
    import datasets
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    datasets.Dataset(pa.table({"feature": values})).save_to_disk(str(folder))

    data = datasets.load_from_disk(str(folder)).with_format("torch")
    return lambda number: (batch["feature"] for batch in data.shuffle(seed=number).iter(BATCH))


PEERS: dict[str, Callable[[Path, np.ndarray], Epoch]] = {
    "webdataset": webdataset,
    "mosaicml": mosaicml,
    "litdata": litdata,
    "datasets": datasets,
}
