"""The loader: an epoch's batches of rows and features, in an order that can be replayed. After any batch its state says
where it is; a loader of the same view goes on from there, with any number of ranks and threads.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, starmap
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from distill.dataset.order import batches, share
from distill.dataset.sampled_features import SampledFeatures
from distill.dataset.windows import resident_rows, stream, window_batches
from teacher_cache import ArmadaError, ChosenRows, FeatureRows, ShardRows

FORMAT = 1  # of the state
_BUFFER_BYTES = 1 << 21  # small batches are views of one buffer: each alone would cost more in being handed over


@dataclass(frozen=True)
class Batch:
    """A rank's part of a global batch. Every rank gets equally many rows; those after the first `own` repeat others of
    the batch, and are to count for nothing."""

    rows: np.ndarray  # (B,) int64, the view's
    features: Tensor  # (B, L) on the loader's device
    own: int


class Loader(IterableDataset[Batch]):
    """Iterate it once an epoch. Left in the middle, or given a saved state, it goes on where it was.

    `features` (N, L) are an array, a tensor (gathered where it is: see `on_device`), Rows, or Draws of one of the first
    two; `view` is the digest that names them. `lengths` (N,) puts rows of like length together. `threads` gather ahead
    in the background: by default two for another device, and none for the CPU, whose cores all gather at once. Rows
    that come from shards are read in windows that keep within `max_local_bytes`, one ahead unless `threads` is 0; the
    order takes about 100 bytes a row beside them.
    """

    def __init__(
        self,
        features: np.ndarray | Tensor | FeatureRows | SampledFeatures,
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
        self._draws = features if isinstance(features, SampledFeatures) else None
        source = features.features if isinstance(features, SampledFeatures) else features
        self._whole = source if isinstance(source, Tensor) else None
        self._rows: FeatureRows = _Memory(source) if isinstance(source, np.ndarray | Tensor) else source
        self._view, self._batch_size, self._seed, self._lengths = view, batch_size, seed, lengths
        self._rank, self._ranks = rank, ranks
        self._device = torch.device(device)
        self._threads = threads if threads is not None else 0 if self._device.type == "cpu" else 2
        self._windows_ahead = 0 if threads == 0 else 1
        self._resident = 0  # rows in the window; 0 where all can be had at any time
        self._groups = np.empty(0, np.int32)
        if isinstance(features, ChosenRows) and isinstance(features.source, ShardRows):
            if max_local_bytes is None or lengths is not None:
                raise ArmadaError("features in windows of shards need max_local_bytes, and can't be ordered by length")
            self._groups = features.source.shards_of(features.places).astype(np.int32)
            largest = int(np.bincount(self._groups).max(initial=1))
            self._resident = resident_rows(max_local_bytes, features.shape[1] * features.dtype.itemsize, largest)
        self._epoch = self._step = 0

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to, or that is at its end."""
        return self._epoch

    def __len__(self) -> int:
        """Batches an epoch, the same for every rank."""
        return -(-self._count // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The epoch's batches that are left. Raises ArmadaError in a DataLoader's worker process, of which each would
        give all batches."""
        if get_worker_info():
            raise ArmadaError("the loader has threads of its own: expected num_workers=0, found worker processes")
        parts = [share(batch, self._rank, self._ranks) for batch in self._order()[self._step :]]
        shown = self._draws.at(self._epoch) if self._draws else None
        take = self._taker([rows if shown is None else shown[rows] for rows, _ in parts])
        for (rows, own), features in zip(parts, take, strict=True):
            moved = features.to(self._device, non_blocking=True)
            self._step += 1  # before the yield: a state that is saved while a batch is used counts it
            yield Batch(rows, moved, own)
        self._epoch, self._step = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, for torch.save or torchdata's StatefulDataLoader(loader, batch_size=None)."""
        state = {**self._identity, "epoch": self._epoch, "step": self._step}
        return {**state, "groups": self._groups.tobytes(), "resident": self._resident} if self._resident else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ArmadaError for one of other rows, features, seed or batch size."""
        for name, expected in self._identity.items():
            if state.get(name) != expected:
                raise ArmadaError(
                    f"the saved state is of another run: expected {name} {expected!r}, found {state.get(name)!r}; "
                    "start without it, or bring back the rows, features and settings that it was saved with"
                )
        if self._resident:  # a compaction since then changes what is read together, not the order
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

    def _taker(self, shares: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """The features of each share, in turn; taken in the background but for those on a device."""
        if self._whole is not None:
            whole = self._whole
            return (whole.index_select(0, torch.from_numpy(rows).to(whole.device)) for rows in shares)
        if self._resident:
            streamed = stream(self._rows, shares, self._groups)
            return ahead(lambda _: self._pinned(next(streamed)), ((rows,) for rows in shares), self._windows_ahead)
        self._rows.warm()
        width = max(1, self._rows.shape[1])  # an undistilled student's rows have no features
        together = max(1, _BUFFER_BYTES // (self._batch_size * width * self._rows.dtype.itemsize))
        parts = (shares[start : start + together] for start in range(0, len(shares), together))
        return chain.from_iterable(ahead(self._gather, ((part, self._buffer(part)) for part in parts), self._threads))

    def _buffer(self, shares: Sequence[np.ndarray]) -> Tensor:
        """Memory for some batches. Asked for in the caller's thread, it is that of batches which the caller let go: new
        pages each time would take longer than the gather."""
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
        return self._device.type == "cuda"  # torch keeps a pinned buffer until its copy is over


def ahead(work: Callable[..., Any], calls: Iterable[tuple[Any, ...]], threads: int) -> Iterator[Any]:
    """work(*arguments) of each call, in turn; twice as many as `threads` are under way. 0: none in the background."""
    if not threads:
        yield from starmap(work, calls)
        return
    with ThreadPoolExecutor(threads, "armada-batch") as pool:
        waiting = iter(calls)
        pending: deque[Future[Any]] = deque(pool.submit(work, *call) for call in islice(waiting, 2 * threads))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(work, *call) for call in islice(waiting, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()


def on_device(
    features: np.ndarray | FeatureRows | SampledFeatures, device: torch.device | str, share_of_free: float = 0.5
) -> Tensor | SampledFeatures | None:
    """All features (N, L) as a tensor on a CUDA device, or None where they take more than that share of its free
    memory, or the device is none."""
    device = torch.device(device)
    if isinstance(features, SampledFeatures):
        moved = on_device(features.features, device, share_of_free)
        return None if moved is None else features.on(moved)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if features.shape[0] * features.shape[1] * features.dtype.itemsize > share_of_free * free:
        return None
    values = features if isinstance(features, np.ndarray) else features.take(np.arange(features.shape[0]))
    return torch.from_numpy(values).to(device)


@dataclass(frozen=True)
class _Memory:
    """An array, or a tensor whose rows are gathered elsewhere, as Rows."""

    array: Any  # (N, L)

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
