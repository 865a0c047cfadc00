"""Drawing by batches: collect those that have ended, send what is missing, and wait or come back.

A batch outlives the build: its rows belong to it in the spool until its results are stored, so that the build may end,
or be killed, and the next one, days later, goes on. What a batch did not bring is requested again in a new one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from teacher_cache.batches.api import AwayError, BatchApi, InterruptedBuildError, MissingError
from teacher_cache.batches.collecting import Collector
from teacher_cache.batches.records import Batch
from teacher_cache.batches.sending import Sender
from teacher_cache.batches.tables import BatchTables, Settled, keys_in_batches
from teacher_cache.batches.teacher import OpenAIBatch
from teacher_cache.building.answers import IdenticalPictures, check_picture
from teacher_cache.building.background import Background
from teacher_cache.building.batches.adoption import adopted
from teacher_cache.building.batches.outbox import Outbox
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.other_hosts import RequestQueue
from teacher_cache.building.plan import Plan
from teacher_cache.building.sealing import SealTimes
from teacher_cache.errors import ArmadaError
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.progress_bar import progress
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool
from teacher_cache.teachers import Failure, Picture
from teacher_cache.teachers.http_errors import HopelessError
from teacher_cache.teachers.http_reply import ReplyError

if TYPE_CHECKING:
    from tqdm import tqdm

_VALIDATION_S = 60.0  # how long a build that does not wait looks whether the provider takes its new batches
_FRUITLESS = 3  # batches in a row that brought nothing, after which the build stops


@dataclass
class BatchDrawing:
    """Draws the wanted pictures of a plan by batches; counts what was drawn and, by reason, what failed. `stopped` may
    say why some are missing, `in_batches` how many are still to come."""

    spool: Spool
    teacher: OpenAIBatch
    teacher_source: Source
    options: BuildOptions
    background: Background
    stop: Callable[[], bool]
    clock: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    drawn: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    stopped: str = ""  # or "budget", "interrupted" or "batches"
    in_batches: int = 0
    shared: tuple[str, ...] = ()  # the digests of further sources whose calls count under the same caps
    _fruitless: int = 0
    _is_full: bool = False  # whether the provider's queue has just refused a batch
    _bar: tqdm[Any] = field(init=False)
    _said: set[str] = field(default_factory=set)

    def run(self, plan: Plan, planned: int) -> None:
        """Collect this teacher's batches, and send the plan's wanted rows; `planned` is the spool's last seal before
        the plan was made. With `options.wait`, return when no picture of the plan is in a batch any more.

        Raises ArmadaError if the provider refuses the requests or stays away. Everything that came is stored then, and
        batches that it has accepted are kept.
        """
        self._plan, self._planned = plan, planned
        self._times = SealTimes(self.spool, self.teacher_source.digest, self.options, self.clock)
        self._name = f"teacher {self.teacher_source.spec.get('kind', '')}"
        self._tables = BatchTables(self.spool, self.clock)
        self._most = self.teacher.rows
        self._identical = IdenticalPictures(self._name, self.teacher.if_identical)
        if not plan.calls and not self._tables.batches(self.teacher_source.digest):
            return
        client, headers = self.teacher.client()
        with client, progress(plan.calls, self._name, "picture") as self._bar:
            one = self.teacher
            api = BatchApi(one.url, client, headers, one.seconds, self.stop, one.without_key, self.sleep, one.query)
            self._sender = Sender(api, self._tables, self.teacher, self.spool.token, self.clock)
            self._collector = Collector(
                api, self._tables, self.teacher, self.options.attempts, check_picture, self._stored, self.clock
            )
            queue = RequestQueue(plan, self.background.others, self._bar.update)
            self._outbox = Outbox(plan, queue, self.teacher)
            try:
                for batch in adopted(api, self._tables, self.background.cache, self.spool, one, plan, planned):
                    self._say(f"batch {batch.batch_id} of a lost spool is found again: {batch.rows} missing pictures")
                self._run()
            except InterruptedBuildError:
                self.stopped = "interrupted"
            except (HopelessError, AwayError, MissingError, ReplyError) as error:
                raise ArmadaError(self.teacher.without_key(str(error))) from None
            finally:
                self.in_batches = self._count()
                if not self.stopped and (self.in_batches or self._outbox):
                    self.stopped = "batches"
                self.background.seal()

    def _run(self) -> None:
        looking_until = 0.0
        while True:
            self._collect()
            if self._send():
                looking_until = self.clock() + _VALIDATION_S
            if self.stop():
                self.stopped = "interrupted"
                return
            batches = self._own_batches()
            is_validated = all(batch.status not in ("", "validating") for batch in batches if batch.state == "open")
            if not self._count() and (not self._outbox or self.stopped):
                return
            if not self.options.wait and (is_validated or self.clock() >= looking_until):
                return
            if self.options.wait and self.stopped == "budget" and not batches:
                return
            self._wait(self.teacher.poll_s if is_validated else min(self.teacher.poll_s, 5.0))

    def _own_batches(self) -> list[Batch]:
        """Return the batches that this build handles: of this server, and of no other build that runs."""
        found = []
        for batch in self._tables.batches(self.teacher_source.digest):
            if batch.server != self.teacher.url and batch.state not in ("open", "sending", "settled"):
                if self._tables.take(batch):  # nothing was accepted there
                    self._free(batch)
            elif batch.server != self.teacher.url:
                self._say(
                    f"{batch.rows_left} pictures are in a batch at {batch.server}; base_url={batch.server} brings them"
                )
            elif self._tables.take(batch):
                found.append(batch)
        return found

    def _collect(self) -> None:
        """Send what an earlier build did not finish to send, and collect what has ended."""
        for batch in self._own_batches():
            is_due = batch.state != "full" or self.clock() >= batch.tried_at + self.teacher.poll_s
            if batch.state not in ("open", "settled") and is_due:
                if batch.state != "sending" and not self._is_within_budget(batch):
                    self._free(batch)
                    continue
                batch = self._sender.send(batch, is_new=False)
                if batch.state == "full":
                    self._make_room(batch)
            before = self.spool.spent(self.teacher_source.digest)
            left = self._collector.look(batch)
            if left is not None and (batch.state, left.state) == ("open", "full"):
                self._make_room(left)
            elif batch.state == "open" and (left is None or left.state == "settled"):
                has_calls = self.spool.spent(self.teacher_source.digest) != before
                self._fruitless = 0 if has_calls else self._fruitless + 1
                if self._fruitless >= _FRUITLESS:
                    raise ArmadaError(
                        f"{self.teacher.url}: {_FRUITLESS} batches in a row ended without a result, the last one "
                        f"{batch.batch_id}; look at it in the provider's console, then run the same command again"
                    )

    def _is_within_budget(self, batch: Batch) -> bool:
        """Whether the budget allows the price that an earlier build has reserved for a batch."""
        calls, usd = self.spool.spent_or_reserved(self.teacher_source.digest, *self.shared)
        budget = self._budget()
        return not budget.is_limited or budget.allows(calls - 1, usd - (budget.price_usd or 0.0))

    def _make_room(self, batch: Batch) -> None:
        """The provider's queue was full: try again when another batch has ended; if there is none, try with half."""
        others = [one for one in self._own_batches() if one.state == "open" and one.uid != batch.uid]
        if others or batch.rows_left < 2:
            self._say(f"the provider's queue is full; {batch.rows_left} pictures are sent later")
            return
        self._most = max(1, min(self._most, batch.rows_left) // 2)
        self._say(f"the provider's queue takes no {batch.rows_left} pictures at once; trying {self._most} later")
        self._free(batch)
        self._is_full = True

    def _free(self, batch: Batch) -> None:
        rows = self._tables.rows(batch)
        self._sender.drop(batch)
        self._outbox.take_back(rows)

    def _send(self) -> bool:
        """Send the rows that are missing, in batches, while the budget and the provider's queue allow it. Returns
        whether one was sent."""
        sent, held = False, list[Wanted]()
        if self.stopped == "budget":  # it may be less now: a batch reserves more than most pictures cost
            self.stopped = ""
        while not self.stop() and not self.stopped and not self._is_full:
            if any(batch.state == "full" for batch in self._own_batches()):
                break
            rows = self._outbox.next_rows(self._most)
            if not rows:
                break
            budget = self._budget()
            source = self.teacher_source.digest
            made = self._tables.reserve(source, self.teacher.url, rows, budget, self._planned, self.teacher.per_request)
            held += made.held
            self._outbox.put_back(rows[made.taken :])
            if made.is_spent:
                self.stopped = "budget"
            if made.batch:
                batch = self._sender.send(made.batch, is_new=True)
                sent = True
                if batch.state == "full":
                    self._make_room(batch)
                else:
                    self._say(f"batch {batch.batch_id}: {batch.rows} pictures, due within 24 hours")
        self._outbox.hold(held)
        self._is_full = False
        return sent

    def _budget(self) -> Budget:
        price, elsewhere = self.teacher.price_usd, self.background.spent_elsewhere
        return Budget(self.options.max_calls, self.options.budget_usd, price, elsewhere, self.shared)

    def _stored(self, settled: Settled, rows: Mapping[str, Wanted]) -> None:
        """Count what was stored, send again what is free, and start a seal if one is due."""
        self._outbox.take_back([rows[answer.image_key] for answer in settled.again])
        self._outbox.take_back([rows[key] for key in settled.unsent])
        for answer in settled.final:
            request = rows[answer.image_key].request
            self._bar.update()
            if isinstance(answer, Failure):
                self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
                continue
            self.drawn += 1
            self._identical.add(sha256(answer.data), request.prompt, request.sample)
        self._times.seal_if_due(self.background, sum(isinstance(answer, Picture) for answer in settled.final))

    def _count(self) -> int:
        """Return how many pictures of the plan are in batches."""
        return self._outbox.count(keys_in_batches(self.spool, self.teacher_source.digest))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stop():
            self.sleep(max(0.0, min(0.5, until - time.monotonic())))

    def _say(self, message: str) -> None:
        """Print a message, once."""
        if message not in self._said:
            self._said.add(message)
            print(f"{self._name}: {message}", file=sys.stderr)
