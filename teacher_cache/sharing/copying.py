"""Push, pull and sync: send what a cache has and another lacks, so that no reader ever sees a commit without its
shards.

Tars come first, then indexes, features and failures, then the records of teachers and encoders, and the commits last.
Everything that arrived stays; the same command continues. There is no lock: several may send to one cache at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from teacher_cache.errors import ArmadaError
from teacher_cache.format.commits import Shard
from teacher_cache.progress_bar import progress
from teacher_cache.sharing.finishing import finish, send_viewer
from teacher_cache.sharing.plan import Plan, held_back, make_plan
from teacher_cache.sharing.selection import PullFilter, Selection, rows_in, select
from teacher_cache.sharing.side import Side, open_side, read_sources
from teacher_cache.sharing.transfer import send_bytes, send_files
from teacher_cache.storage.cache_json import CACHE_JSON
from teacher_cache.storage.part import Part, write_part

_MESSAGE = "armada cache push"  # of git commits on the Hub


@dataclass
class Shared:
    """What was sent, or would be, and what was there already; commits and the records of sources are included.

    `left_out` counts the files that were not chosen. `missing` are files that commits name and nobody has, `refused`
    those that are damaged or no files of a cache, each with the reason, and `commits_held_back` counts the commits that
    were not sent because their shards were not.
    """

    files_sent: int = 0
    bytes_sent: int = 0
    files_there: int = 0
    left_out: int = 0
    commits_held_back: int = 0
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether everything that was chosen is in the target."""
        return not (self.missing or self.refused or self.commits_held_back)

    def add(self, size: int) -> None:
        """Count a file of `size` bytes as sent."""
        self.files_sent += 1
        self.bytes_sent += size


def push(folder: str, url: str, *, dry_run: bool = False) -> Shared:
    """Send to `url` what the cache in `folder` has and `url` lacks. With `dry_run`, only count it.

    Raise NoCacheError if `folder` has no cache, CacheError if a store refuses, or has a cache of another format.
    """
    return _copy(open_side(folder), open_side(url, make=True), PullFilter(), dry_run)


def pull(url: str, folder: str, only: PullFilter = PullFilter(), *, dry_run: bool = False) -> Shared:
    """Fetch into `folder` what the cache at `url` has and `folder` lacks, or the part that `only` names.

    The copy records what it is a part of. Raise SpecError if the cache has no such teacher or encoder; see also `push`.
    """
    source, target = open_side(url), open_side(folder, make=True)
    if not only.is_everything and not target.store.is_local:
        raise ArmadaError(f"{target.store}: a part of a cache is pulled into a folder of this machine")
    return _copy(source, target, only, dry_run)


def sync(first: str, second: str, *, dry_run: bool = False) -> Shared:
    """Send what each of two caches has and the other lacks. One of them need not exist."""
    one, two = open_side(first, make=True), open_side(second, make=True)
    if not one.has_cache and not two.has_cache:
        open_side(first)  # it raises the error that there is no cache
    if not one.has_cache:
        return _copy(two, one, PullFilter(), dry_run)
    done = _copy(one, two, PullFilter(), dry_run)
    if two.has_cache:
        back = _copy(open_side(second), open_side(first), PullFilter(), dry_run)
        done.files_sent, done.bytes_sent = done.files_sent + back.files_sent, done.bytes_sent + back.bytes_sent
        done.commits_held_back += back.commits_held_back
        done.missing = sorted({*done.missing, *back.missing})
        done.refused |= back.refused
    return done


@dataclass(frozen=True)
class _Copy:
    """One copy from a side to another."""

    source: Side
    target: Side
    plan: Plan
    done: Shared
    dry_run: bool

    def send(self, files: Sequence[Shard]) -> None:
        """Send files, or only count them. Those that fail are refused."""
        if self.dry_run or not files:
            for file in files:
                self.done.add(file.bytes)
            return
        with progress(len(files), f"copy {self.source.store}", "file") as bar:

            def arrived(file: Shard) -> None:
                self.done.add(file.bytes)
                self.plan.listed[file.path] = file.bytes
                bar.update()

            self.done.refused |= send_files(self.source.store, self.target.store, files, arrived, _MESSAGE)

    def choose_rows(self, selection: Selection) -> None:
        """Send the indexes and failures, and leave out the other shards of the plan that have no row of the prompts."""
        plan = self.plan
        early = [file for path, file in plan.files.items() if selection.takes_all_rows(path)]
        self.send(early)
        late = [path for path in plan.files if not selection.takes_all_rows(path)]
        shards = {path: plan.live[path] for path in late}
        tables = self.source.store if self.dry_run else self.target.store
        taken, unreadable = rows_in(self.source.store, shards, tables, selection.prompts)
        self.done.refused |= unreadable
        for path in shards.keys() - taken - unreadable.keys():
            plan.left_out[path] = shards[path].bytes
        plan.files = {path: plan.files[path] for path in plan.files if path in taken}


def _copy(source: Side, target: Side, only: PullFilter, dry_run: bool) -> Shared:
    sources = read_sources(source)
    selection = select(only, sources, str(source.store))
    plan = make_plan(source, target, selection, sources)
    done = Shared(files_there=plan.there, missing=plan.missing, refused=plan.refused)
    copy = _Copy(source, target, plan, done, dry_run)
    if selection.prompts is not None:
        copy.choose_rows(selection)
    copy.send(list(plan.files.values()))
    done.left_out = len(plan.left_out)
    commits = {**source.commits, **target.commits}
    expected = {path: file.bytes for path, file in plan.files.items()} if dry_run else {}
    held = held_back(commits, set(plan.commits), {**plan.listed, **plan.left_out, **expected})
    done.commits_held_back = len(held)
    texts = {digest: source.log.text(digest) for digest in plan.commits if digest not in held}
    records = [] if target.has_cache else [("cache.json", CACHE_JSON)]
    records += [(path, source.store.read(path)) for path in plan.sources]
    named = [(f"commits/{digest}.json", data) for digest, data in texts.items()]
    if dry_run:
        for _, data in [*records, *named]:
            done.add(len(data))
        return done
    if target.store.is_local and (plan.left_out or target.part):
        chosen = only.in_words() or (target.part.chosen if target.part else "")
        write_part(target.store, Part(str(source.store), chosen, frozenset(plan.left_out)))
    sizes = {name: len(data) for name, data in [*records, *named]}
    is_mirror = target.commits.keys() <= source.commits.keys() and not held and not plan.left_out
    last = finish(source, target, texts, is_mirror) if done.files_sent or sizes else None
    batches = [records, named, last.files if last else []]
    if target.store.hub:  # one call
        batches = [list(itertools.chain(*batches))]

    def arrived(name: str) -> None:
        if name in sizes:
            done.add(sizes[name])

    if last:
        send_viewer(source, target)
    for batch in batches:
        send_bytes(target.store, batch, arrived, _MESSAGE)
    if last:
        last.afterwards()
    return done
