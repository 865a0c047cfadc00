"""The loader: batches of rows and features, in an order that can be replayed.

Its state after any batch can be saved. A loader of the same view resumes from it, with any number of ranks and threads.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, starmap
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from distill.dataset.moving import moved
from distill.dataset.order import batches, share
from distill.dataset.sampled_features import FeatureTable, SampledFeatures
from distill.dataset.windows import resident_rows, stream, window_batches
from teacher_cache import ArmadaError, ChosenRows, FeatureRows, ShardRows

Result = TypeVar("Result")
FORMAT = 1  # of the saved state
_BUFFER_BYTES = 1 << 21  # small batches are gathered together into one buffer: one task per batch would cost more


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch. All ranks get the same number of rows, padded with rows of the same batch."""

    rows: np.ndarray  # (B,) int64, row numbers in the view
    features: Tensor  # (B, L), on the device of the loader
    own: int  # only the first `own` rows count; the others are padding


class Loader(IterableDataset[Batch]):
    """Batches of a view. Iterate once per epoch; an interrupted iteration is continued by the next one.

    Args:
        features: (N, L), an array, a tensor (batches are gathered on its device: see `on_device`), FeatureRows, or
            SampledFeatures.
        view: the digest of the view; the order depends on it, and a saved state is checked against it.
        batch_size: rows of a global batch, over all ranks.
        seed: the seed of the order.
        rank: the number of this process.
        ranks: the number of processes.
        threads: background threads that gather batches ahead; by default 2 for a GPU and 0 for the CPU, where the
            computation already uses all cores.
        device: where the features of a batch are put.
        lengths: (N,), so that rows of similar length share a batch.
        max_local_bytes: the memory limit for features in shards. They are read in windows, one batch ahead unless
            `threads` is 0; the order needs about 100 more bytes per row.

    Raise ArmadaError for a batch size or rank out of range, and for features in shards without `max_local_bytes` or
    with `lengths`.
    """

    def __init__(
        self,
        features: FeatureTable,
        view: str,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        threads: int | None = None,
        device: torch.device | str = "cpu",
        lengths: np.ndarray | None = None,
        max_local_bytes: int | None = None,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < ranks:
            raise ArmadaError(f"expected a batch size above 0 and a rank below {ranks}, found {batch_size} and {rank}")
        self._count = features.shape[0]  # N
        self._sampled = features if isinstance(features, SampledFeatures) else None
        source = features.features if isinstance(features, SampledFeatures) else features
        self._whole = source if isinstance(source, Tensor) else None
        self._rows: FeatureRows = _Memory(source) if isinstance(source, np.ndarray | Tensor) else source
        self._view, self._batch_size, self._seed, self._lengths = view, batch_size, seed, lengths
        self._rank, self._ranks = rank, ranks
        self._device = torch.device(device)
        self._threads = threads if threads is not None else 0 if self._device.type == "cpu" else 2
        self._windows_ahead = 0 if threads == 0 else 1
        self._resident = 0  # rows in the window; 0 if every row can be read at any time
        self._groups = np.empty(0, np.int32)
        if isinstance(features, ChosenRows) and isinstance(features.source, ShardRows):
            if max_local_bytes is None or lengths is not None:
                raise ArmadaError("features in windows of shards need max_local_bytes, and cannot be ordered by length")
            self._groups = features.source.shards_of(features.places).astype(np.int32)
            largest = int(np.bincount(self._groups).max(initial=1))
            self._resident = resident_rows(max_local_bytes, features.shape[1] * features.dtype.itemsize, largest)
        self._epoch = self._step = 0

    @property
    def epoch(self) -> int:
        """The epoch of the next batch; after the last batch of an epoch, still that epoch until iteration ends."""
        return self._epoch

    def __len__(self) -> int:
        """Return the number of batches per epoch, which is the same for every rank."""
        return -(-self._count // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches of the epoch.

        Raise ArmadaError in a worker process of a DataLoader, because each worker would yield all batches.
        """
        if get_worker_info():
            raise ArmadaError("the loader has threads of its own: expected num_workers=0, found worker processes")
        parts = [share(batch, self._rank, self._ranks) for batch in self._order()[self._step :]]
        places = self._sampled.at(self._epoch) if self._sampled else None
        gathered = self._gathered([rows if places is None else places[rows] for rows, _ in parts])
        for (rows, own), features in zip(parts, gathered, strict=True):
            moved = features.to(self._device, non_blocking=True)
            self._step += 1  # before the yield: a state saved while this batch is in use counts it
            yield Batch(rows, moved, own)
        self._epoch, self._step = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, for torch.save or torchdata's StatefulDataLoader(loader, batch_size=None)."""
        state = {**self._identity, "epoch": self._epoch, "step": self._step}
        return {**state, "groups": self._groups.tobytes(), "resident": self._resident} if self._resident else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state.

        Raise ArmadaError if it was saved with other rows, features, seed, lengths or batch size.
        """
        for name, expected in self._identity.items():
            if state.get(name) != expected:
                raise ArmadaError(
                    f"the saved state is of another run: expected {name} {expected!r}, found {state.get(name)!r}; "
                    "start without it, or bring back the rows, features and settings that it was saved with"
                )
        if self._resident:  # keeps the order, even if a compaction has since changed the shards
            self._groups = np.frombuffer(state["groups"], np.int32)
            self._resident = int(state["resident"])
        self._epoch, self._step = int(state["epoch"]), int(state["step"])

    @cached_property
    def _identity(self) -> dict[str, Any]:
        lengths = b"" if self._lengths is None else np.asarray(self._lengths, np.int64).tobytes()
        return {
            "format": FORMAT,
            "view": self._view,
            "order": "windows" if self._resident else hashlib.sha256(lengths).hexdigest()[:16],
            "seed": self._seed,
            "batch_size": self._batch_size,
        }

    def _order(self) -> list[np.ndarray]:
        place: dict[str, Any] = {"key": self._view, "seed": self._seed, "epoch": self._epoch}
        if self._resident:
            return window_batches(self._groups, self._batch_size, self._resident, **place)
        return batches(self._count, self._batch_size, lengths=self._lengths, **place)

    def _gathered(self, shares: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield the features of each share in order, gathered in the background unless they are on a device."""
        if self._whole is not None:
            whole = self._whole
            return (whole.index_select(0, moved(rows, whole.device)) for rows in shares)
        if self._resident:
            streamed = stream(self._rows, shares, self._groups)
            return ahead(lambda _: self._pinned(next(streamed)), ((rows,) for rows in shares), self._windows_ahead)
        self._rows.warm()
        width = max(1, self._rows.shape[1])  # 0 in an undistilled run
        together = max(1, _BUFFER_BYTES // (self._batch_size * width * self._rows.dtype.itemsize))
        parts = (shares[start : start + together] for start in range(0, len(shares), together))
        return chain.from_iterable(ahead(self._gather, ((part, self._buffer(part)) for part in parts), self._threads))

    def _buffer(self, shares: Sequence[np.ndarray]) -> Tensor:
        """Allocate memory for some batches.

        This runs in the thread of the caller, so that the allocator reuses the memory of batches that the caller has
        freed: new pages for every batch would take longer than gathering.
        """
        shape = (sum(map(len, shares)), self._rows.shape[1])
        dtype = torch.from_numpy(np.empty(0, self._rows.dtype)).dtype
        return torch.empty(shape, dtype=dtype, pin_memory=self._pins)

    def _gather(self, shares: Sequence[np.ndarray], buffer: Tensor) -> Sequence[Tensor]:
        self._rows.take(np.concatenate(shares), buffer.numpy())
        return torch.split(buffer, [len(rows) for rows in shares])

    def _pinned(self, features: np.ndarray) -> Tensor:
        host = torch.from_numpy(features)
        return host.pin_memory() if self._pins else host

    @property
    def _pins(self) -> bool:
        return self._device.type == "cuda"  # torch does not reuse a pinned buffer before its copy has ended


def ahead(work: Callable[..., Result], calls: Iterable[tuple[Any, ...]], threads: int) -> Iterator[Result]:
    """Yield work(*arguments) for each call in order, with 2 * `threads` calls running ahead (0: no threads)."""
    if not threads:
        yield from starmap(work, calls)
        return
    with ThreadPoolExecutor(threads, "armada-batch") as pool:
        waiting = iter(calls)
        pending: deque[Future[Result]] = deque(pool.submit(work, *call) for call in islice(waiting, 2 * threads))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(work, *call) for call in islice(waiting, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()


@dataclass(frozen=True)
class _Memory:
    """An array (N, L) as FeatureRows; or a tensor, of which only the shape is read here."""

    array: Any

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape[0], self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.take(self.array, rows, axis=0, out=out, mode="clip")

    def warm(self) -> None:
        pass
