"""Drawing and encoding, the two halves of a build: the teacher is asked on the build's own thread, sealed pictures are
encoded on a second one beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from teacher_cache.budget import Budget
from teacher_cache.cache import Cache
from teacher_cache.encode import Encoded, encode
from teacher_cache.encoders import Encoder
from teacher_cache.errors import ArmadaError
from teacher_cache.keys import sha256
from teacher_cache.pictures import index_rows, picture_fault
from teacher_cache.plan import Plan, missing_features, requests_of
from teacher_cache.progress_bar import progress
from teacher_cache.seal import seal, seal_samples
from teacher_cache.signature import Signature
from teacher_cache.sources import Source, encoder_source
from teacher_cache.spool import Spool, Wanted
from teacher_cache.teachers import REASONS, Failure, Picture, Request, Teacher


@dataclass(frozen=True)
class BuildOptions:
    """What to build and when to seal. Rows are pictures; `seal_seconds` bounds what another machine can't see yet.
    `prompts` names where the prompts came from, for the card."""

    samples: int = 1
    limit: int | None = None
    max_calls: int | None = None
    budget_usd: float | None = None
    shard_rows: int = 8192
    seal_rows: int = 2048
    seal_seconds: float = 600.0
    format: str = "parquet"
    retry: Sequence[str] = ()
    prompts: str = ""


@dataclass
class Encoding:
    """Encodes sealed pictures on a thread beside the teacher, and at the end whatever else lacks a feature."""

    cache: Cache
    drawer: Source
    encoder: Encoder
    options: BuildOptions
    signature: Signature
    stop: Callable[[], bool]
    pool: ThreadPoolExecutor
    total: Encoded = field(default_factory=Encoded)
    tasks: list[Future[Encoded]] = field(default_factory=list)

    def seal(self, spool: Spool) -> None:
        """Seal what was drawn, and encode it: in the background, or at once where a tar holds both."""
        rows = self.options.shard_rows
        if self.options.format == "webdataset":
            self.total.add(seal_samples(self.cache, spool, self.drawer, self.encoder, rows, self.signature))
            return
        for index in seal(self.cache, spool, self.drawer, rows, self.signature):
            self.tasks.append(self.pool.submit(self._encode, [index], index.num_rows))

    def finish(self, keys: pa.Array) -> Encoded:
        """Wait, then encode those of `keys` that still have none."""
        for task in self.tasks:
            self.total.add(task.result())
        if not self.stop():
            self.total.refused = 0  # what was refused so far has no feature yet, and is refused again
            missing = missing_features(self.cache, self.drawer, encoder_source(self.encoder), keys)
            rows = index_rows(self.cache, missing, self.options.shard_rows)
            self.total.add(self._encode(rows, missing.num_rows))
        return self.total

    def _encode(self, parts: Iterable[pa.Table], total: int) -> Encoded:
        return encode(
            self.cache,
            self.drawer,
            self.encoder,
            parts,
            total,
            signature=self.signature,
            stop=self.stop,
            format=self.options.format,
        )


@dataclass
class Drawing:
    """Asks the teacher for the wanted pictures, keeps each answer, seals now and then."""

    spool: Spool
    teacher: Teacher
    drawer: Source
    options: BuildOptions
    encoding: Encoding
    stop: Callable[[], bool]
    clock: Callable[[], float]
    drawn: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    stopped: str = ""

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the last seal before the plan was made."""
        started, sealed_at = time.monotonic(), self.clock()
        pending: Iterator[Wanted] | None = requests_of(plan.wanted)
        with progress(plan.wanted.num_rows, f"teacher {self.drawer.spec.get('kind', '')}", "picture") as bar:
            while pending is not None and not self.stopped:
                held: list[Wanted] = []
                for answer in self.teacher.draw(self._requests(pending, held, planned, bar)):
                    self._keep(answer)
                    bar.update()
                    full = self.spool.count(self.drawer.digest, "drawn") >= self.options.seal_rows
                    if full or self.clock() - sealed_at >= self.options.seal_seconds:
                        self.encoding.seal(self.spool)
                        sealed_at = self.clock()
                pending = iter(held) if held else None
                if pending is not None and not self.stopped:
                    time.sleep(0.2)  # another build of this machine is drawing these; if it dies, they are ours
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"teacher {self.drawer.name}", answers, time.monotonic() - started)
        self.encoding.seal(self.spool)

    def _requests(self, pending: Iterator[Wanted], held: list[Wanted], planned: int, bar: Any) -> Iterator[Request]:
        budget = Budget(self.options.max_calls, self.options.budget_usd, self.teacher.price_usd)
        for wanted in pending:
            if self.stop():
                self.stopped = "interrupted"
                return
            verdict = self.spool.claim(self.drawer.digest, wanted, budget, planned)
            if verdict == "granted":
                yield wanted.request
            elif verdict == "spent":
                self.stopped = "budget"
                return
            elif verdict == "held":
                held.append(wanted)
            else:
                bar.update()

    def _keep(self, answer: Picture | Failure) -> None:
        if isinstance(answer, Picture):
            fault = picture_fault(answer.data)
            if not fault:
                self.spool.record(answer, sha256(answer.data))
                self.drawn += 1
                return
            answer = Failure(answer.image_key, *fault, answer.cost_usd, answer.seconds)
        if answer.reason not in REASONS:
            raise ArmadaError(f"the teacher gave the reason {answer.reason!r}; expected one of {', '.join(REASONS)}")
        self.spool.record(answer)
        self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
