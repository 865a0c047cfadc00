"""How a night goes: the builds that run on this host, their pace and what is left, and what the cache has so far.

Only looking: nothing is written, no lock is taken, and the cache is listed at most once in some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.night.reasons import Reasons, group_failures
from teacher_cache import Cache, CacheError, Minute, Run, Source, SpoolView, WaitingPicture, view_spool

RELIST_S, RELIST_REMOTE_S = 2.0, 15.0  # between two listings of a cache
_PACE_S = 600.0  # of which the pace is taken
_SHOWN_COMMITS = 5
_DAY_S = 86_400.0


@dataclass(frozen=True)
class RunProgress:
    """A running build. `per_minute` counts its answers in the last ten minutes, `seconds_left` are at that pace; None
    if it is not known."""

    run: Run
    per_minute: float | None
    seconds_left: float | None

    @property
    def done(self) -> int:
        """The requests that are answered, at most those that were planned."""
        return min(self.run.planned, self.run.drawn + self.run.failed)

    @property
    def phase(self) -> str:
        """What it is doing: "drawing", or "encoding" when every request is answered."""
        return "drawing" if self.run.planned > self.run.drawn + self.run.failed else "encoding"


@dataclass(frozen=True)
class TeacherProgress:
    """What one teacher has drawn so far: in the cache, and in this host's spool (`waiting`). Rows of other hosts count
    when they are committed."""

    source: Source
    pictures: int
    waiting: int
    features: Mapping[str, int]  # by the encoder's name
    reasons: Reasons
    in_flight: int
    calls: int
    cost_usd: float


@dataclass(frozen=True)
class PictureCommit:
    """A commit with pictures: who made it and when (ISO 8601, UTC), and how many."""

    at: str
    by: str
    teacher: str
    pictures: int


@dataclass(frozen=True)
class Progress:
    """How it goes now; `now` is in seconds since 1970. `last` is the run that ended last, if none is running."""

    now: float
    cache: str
    running: tuple[RunProgress, ...]
    last: Run | None
    teachers: tuple[TeacherProgress, ...]
    newest: tuple[WaitingPicture, ...]
    commits: tuple[PictureCommit, ...]
    problem: str = ""  # why the cache could not be listed again


class Watcher:
    """Looks at one cache again and again. It remembers what it has listed and read."""

    def __init__(self, cache: Cache, clock: Callable[[], float] = time.time) -> None:
        self._cache, self._clock = cache, clock
        self._listed: float | None = None
        self._seen: tuple[frozenset[str], int] = frozenset(), 0  # the running builds, and the rows in the spool
        self._problem = ""
        self._failures: dict[str, tuple[tuple[str, ...], list[tuple[str, str, str]]]] = {}  # by the teacher's digest

    def look(self, newest: int = 0) -> Progress:
        """Return how it goes now, with the newest pictures of the spool. Raise CacheError if the cache can't be listed
        at the first time; later, `problem` tells."""
        now = self._clock()
        every = RELIST_S if self._cache.store.is_local else RELIST_REMOTE_S
        view = view_spool(self._cache, newest, since=now - _DAY_S)
        running = tuple(progress_of(run, view.minutes) for run in view.runs if run.is_running(now))
        builds, rows = frozenset(one.run.build for one in running), sum(view.drawn.values())
        is_news = builds != self._seen[0] or rows < self._seen[1]  # a build has begun, ended or sealed
        if self._listed is None or is_news or not 0 <= now - self._listed < every:
            self._list(now)
        self._seen = builds, rows
        ended = [run for run in view.runs if not run.is_running(now)]
        return Progress(
            now=now,
            cache=str(self._cache.store),
            running=running,
            last=max(ended, key=lambda run: run.seen) if ended and not running else None,
            teachers=tuple(self._teacher(source, view) for source in self._cache.teachers()),
            newest=view.newest,
            commits=self._commits(),
            problem=self._problem,
        )

    def _list(self, now: float) -> None:
        first = self._listed is None
        try:
            self._cache.refresh()
            _ = self._cache.state
            self._problem = ""
        except CacheError as error:
            if first:
                raise
            self._problem = str(error)
        self._listed = now

    def _teacher(self, source: Source, view: SpoolView) -> TeacherProgress:
        waiting_failures = view.failed.get(source.digest, {})
        known = self._known_failures(source)
        rows = [*known, *((reason, "", "") for reason, count in waiting_failures.items() for _ in range(count))]
        calls, usd = self._cache.spent(source.digest, without=view.token)
        own_calls, own_usd = view.spent.get(source.digest, (0, 0.0))
        folder = f"features/{source.name}/"
        features: dict[str, int] = {encoder.name: 0 for encoder in self._cache.encoders(source)}
        for shard in self._cache.shards(folder):
            name = shard.path.split("/")[2]
            features[name] = features.get(name, 0) + shard.rows
        return TeacherProgress(
            source,
            pictures=sum(shard.rows for shard in self._cache.shards(f"images/{source.name}/")),
            waiting=view.drawn.get(source.digest, 0),
            features=features,
            reasons=group_failures(rows),
            in_flight=view.in_flight.get(source.digest, 0),
            calls=calls + own_calls,
            cost_usd=round(usd + own_usd, 9),
        )

    def _known_failures(self, source: Source) -> list[tuple[str, str, str]]:
        """Return the committed failures of rows without a picture; they are read only if there are new ones."""
        import pyarrow.compute as pc

        folders = (f"failures/{source.name}/", f"images/{source.name}/")
        failures, pictures = ([shard.path for shard in self._cache.shards(folder)] for folder in folders)
        state = (*failures, *pictures) if failures else ()
        if source.digest not in self._failures or self._failures[source.digest][0] != state:
            rows: list[tuple[str, str, str]] = []
            if failures:
                table = self._cache.failures(source)
                drawn = self._cache.images(source, ["image_key"])["image_key"].combine_chunks()
                table = table.filter(pc.invert(pc.is_in(table["image_key"], drawn)))
                columns = (table[name].to_pylist() for name in ("reason", "message", "prompt"))
                rows = [(a or "unknown", b or "", c or "") for a, b, c in zip(*columns, strict=True)]
            self._failures[source.digest] = state, rows
        return self._failures[source.digest][1]

    def _commits(self) -> tuple[PictureCommit, ...]:
        found = []
        for commit in sorted(self._cache.commits(), key=lambda one: one.at, reverse=True):
            shards = [shard for shard in commit.added if shard.path.startswith("images/")]
            if shards and not commit.replaced:
                teacher = shards[0].path.split("/")[1]
                found.append(PictureCommit(commit.at, commit.by, teacher, sum(shard.rows for shard in shards)))
            if len(found) == _SHOWN_COMMITS:
                break
        return tuple(found)


def progress_of(run: Run, minutes: Sequence[Minute]) -> RunProgress:
    """Return how a running build goes; of `minutes` only its own count."""
    mine = [one for one in minutes if one.build == run.build]
    if not mine:
        return RunProgress(run, None, None)
    begin = max(60.0 * mine[0].minute, run.started, 60 * ((run.seen - _PACE_S) // 60))
    answers = sum(
        one.drawn + one.failed for one in mine if 60 * one.minute >= begin - 60 and 60 * one.minute + 60 > begin
    )
    seconds = max(1.0, run.seen - begin)
    per_minute = 60 * answers / seconds
    left = max(0, run.planned - run.drawn - run.failed)
    return RunProgress(run, per_minute, 60 * left / per_minute if per_minute else None)
