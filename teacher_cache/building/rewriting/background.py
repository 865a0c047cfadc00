"""The background work while texts are rewritten: one thread commits what came, so that no call waits for a shard."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from teacher_cache.building.options import BuildOptions
from teacher_cache.building.other_hosts import OtherHosts
from teacher_cache.building.rewriting.sealing import seal_rewrites
from teacher_cache.building.spool_opening import spent_elsewhere
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache


@dataclass
class RewriteSealer:
    """Seals rewritten prompts on a thread while others are asked; use it as a context manager, which waits for it."""

    cache: Cache
    spool: Spool
    teacher: Source
    rewriter: Source
    options: BuildOptions
    provenance: Provenance
    spent_elsewhere: tuple[int, float] = (0, 0.0)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _seals: list[Future[None]] = field(default_factory=list)

    def __enter__(self) -> RewriteSealer:
        self.others.start()
        self._count_elsewhere()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    @cached_property
    def others(self) -> OtherHosts:
        """What other hosts have rewritten since the plan, as of the last seal."""
        return OtherHosts(self.cache, self.rewriter, self.spool.token)

    @property
    def is_sealing(self) -> bool:
        """Whether a seal is running or queued."""
        return bool(self._seals) and not self._seals[-1].done()

    def seal(self) -> None:
        """Start to seal what waits in the spool."""
        self._seals.append(self._thread.submit(self._seal))

    def finish(self) -> None:
        """Raise the error of a seal, if there was one."""
        for sealed in self._seals:
            sealed.result()
        self.cache.refresh()

    def _seal(self) -> None:
        seal_rewrites(self.cache, self.spool, self.rewriter, self.options, self.provenance)
        self.others.look()
        self._count_elsewhere()

    def _count_elsewhere(self) -> None:
        if self.options.max_calls is not None or self.options.budget_usd is not None:
            self.cache.refresh()
            self.spent_elsewhere = spent_elsewhere(self.cache, self.spool, self.teacher)
