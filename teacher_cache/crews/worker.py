"""One worker: a build of the rows that a coordinator orders, on this host's spool, with its own commits.

What a worker has claimed, drawn and spent is in the spool as in any build, so that a killed worker loses its calls in
flight and no more. It reports nothing as done that is not committed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import replace
from typing import cast

from teacher_cache.building.encoding import Encoded, encode
from teacher_cache.building.plan import Plan
from teacher_cache.building.spool_opening import open_spool, prepare, settle, sources_of
from teacher_cache.crews.devices import open_adapters
from teacher_cache.crews.messages import Allowance, Draw, Encode, End, Order, Report, Setup
from teacher_cache.crews.ordered_drawing import Hosts, OrderedBackground, OrderedDrawing, Stream
from teacher_cache.encoders import source_of_encoder
from teacher_cache.errors import ArmadaError, NoFileError
from teacher_cache.format.provenance import Provenance
from teacher_cache.progress_bar import count_instead
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import index_rows
from teacher_cache.teachers import source_of_teacher

_DRY_S = 0.3  # without a row for so long, a worker finishes its calls and commits what it has


class Worker:
    """Works on the orders that `give` brings, in the thread that calls `run`; `report` may be called at any time."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._changed = threading.Condition()
        self._orders: deque[Order] = deque()
        self._received = 0
        self._waiting = 0  # rows
        self._claimed = 0  # rows
        self._drawing: OrderedDrawing | None = None  # of this round
        self._drawn, self._failed = 0, 0  # pictures, of the rounds before
        self._is_busy = True
        self._counts: Counter[str] = Counter()
        self._encoded = Encoded()
        self._has_lost_tars = False
        self._stopped = ""
        self._error: ArmadaError | None = None
        self._has_ended = False
        self._is_stopping = False
        self._allowance: Allowance | None = None
        self._ours: frozenset[str] = frozenset()
        self._opened = threading.Lock()  # of `_spool` and `_spent`
        self._spool: Spool | None = None
        self._ledger, self._spent = "", (0, 0.0)

    def give(self, order: Order) -> None:
        """Add an order; it is worked on when those before it are done."""
        with self._changed:
            self._received += 1
            self._orders.append(order)
            if isinstance(order, Draw):
                self._waiting += len(order.rows)
                self._allowance, self._ours = order.allowance, order.ours
            elif isinstance(order, End) and order.at_once:
                self._is_stopping = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Send no further call, commit what there is, and end: for a notice of termination."""
        self.give(End(at_once=True))

    def report(self) -> Report:
        """Return what was done so far."""
        with self._changed:
            drawn, failed = self._outcomes()
            report = Report(
                is_ready=bool(self._ledger),
                ledger=self._ledger,
                received=self._received,
                waiting=self._waiting,
                claimed=self._claimed,
                drawn=drawn,
                failed=failed,
                is_idle=not self._is_busy and not self._orders,
                counts=dict(self._counts),
                refused=self._encoded.refused,
                has_lost_tars=self._has_lost_tars,
                stopped=self._stopped,
                error=str(self._error) if self._error else "",
                exit_code=self._error.exit_code if self._error else 0,
                has_ended=self._has_ended,
            )
        with self._opened:  # after the rest: what an idle worker has spent is all
            if self._spool:
                self._spent = self._spool.spent(*self._digests)
            return replace(report, spent=self._spent)

    def _outcomes(self) -> tuple[int, int]:
        """Return how many pictures were drawn and have failed."""
        if self._drawing is None:
            return self._drawn, self._failed
        return self._drawn + self._drawing.drawn, self._failed + sum(dict(self._drawing.failed).values())

    def run(self) -> None:
        """Work until an `End` has come. An error in words ends the work and is in the report; any other is raised."""
        count_instead(self._count)
        try:
            self._work()
        except ArmadaError as error:
            self._error = error
        with self._changed:
            self._has_ended = True

    def _work(self) -> None:
        setup = self._setup
        self._teacher, self._encoder = open_adapters(setup)
        self._source, self._encoder_source = source_of_teacher(self._teacher), source_of_encoder(self._encoder)
        self._digests = [source.digest for source in sources_of(self._source)]
        self._cache = Cache(setup.cache)
        self._provenance = Provenance(time.time, setup.options.prompts)
        with open_spool(self._cache) as spool:
            planned = prepare(
                self._cache, spool, self._teacher, self._source, self._encoder_source, setup.options, self._provenance
            )
            self._planned = planned if setup.planned is None else setup.planned
            self._hosts = Hosts(self._cache, self._source, spool.token)
            with self._opened:
                self._spool = spool
            self._ledger = spool.token
            try:
                while not isinstance(order := self._next(), End):
                    if isinstance(order, Encode):
                        self._encode(order)
                    else:
                        self._draw(spool, order)
            finally:
                with self._opened:
                    self._spent, self._spool = spool.spent(*self._digests), None
                spool.add_rate(
                    f"encoder {self._encoder_source.name}",
                    self._encoded.written + self._encoded.refused,
                    self._encoded.seconds,
                )
                if setup.planned is None:  # of a shared spool, the coordinator does it once
                    self._cache.refresh()
                    settle(self._cache, spool, self._provenance)

    def _next(self) -> Order:
        """Wait for the next order, as an idle worker, and return it."""
        with self._changed:
            self._is_busy = False
            while not self._orders and not self._is_stopping:
                self._changed.wait(1)
            self._is_busy = True
            return End() if self._is_stopping else self._orders.popleft()

    def _stops(self) -> bool:
        return self._is_stopping

    def _count(self, label: str, units: int) -> None:
        with self._changed:
            self._counts[label] += units

    # Drawing

    def _draw(self, spool: Spool, order: Draw) -> None:
        """Draw the rows of an order, and of those that come meanwhile, and commit the pictures and their features."""
        self._hosts.ours = self._ours
        background = OrderedBackground(
            self._cache,
            spool,
            self._source,
            self._encoder,
            self._setup.options,
            self._provenance,
            self._stops,
            hosts=self._hosts,
        )
        with background:
            drawing = OrderedDrawing(
                spool,
                self._teacher,
                self._source,
                self._setup.options,
                background,
                self._stops,
                time.time,
                shared=tuple(self._digests[1:]),
            )
            drawing.allowance = lambda: self._allowance
            self._drawing = drawing
            try:
                drawing.run(cast(Plan, Stream(order, self._more, self._claim)), self._planned)
            finally:
                background.seal_all()
                with self._changed:
                    self._waiting = sum(len(one.rows) for one in self._orders if isinstance(one, Draw))
                    self._drawn, self._failed = self._outcomes()
                    self._drawing = None
            background.wait()
        self._stopped = drawing.stopped

    def _more(self) -> Draw | None:
        """Return the next order to draw; None if the next one is another, or none comes for a moment."""
        until = time.monotonic() + _DRY_S
        with self._changed:
            while not self._orders and not self._is_stopping and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._orders and isinstance(self._orders[0], Draw) and not self._is_stopping:
                return cast(Draw, self._orders.popleft())
            return None

    def _claim(self) -> None:
        with self._changed:
            self._waiting -= 1
            self._claimed += 1

    # Encoding

    def _encode(self, order: Encode) -> None:
        """Encode the pictures of whole tars, in the order in which they lie there."""
        options = self._setup.options
        self._cache.refresh()
        try:
            self._encoded.add(
                encode(
                    self._cache,
                    self._source,
                    self._encoder,
                    index_rows(self._cache, order.places, options.shard_rows, options.shard_bytes),
                    order.places.num_rows,
                    provenance=self._provenance,
                    stop=self._stops,
                    format=options.format,
                )
            )
        except NoFileError:  # the cache was compacted meanwhile: the coordinator plans again
            self._has_lost_tars = True
