"""The plan of a copy: the files that the target lacks, from the commits and the listings of both sides.

The files that count in both caches together are wanted. Making a plan reads no shard and writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from teacher_cache.format.commits import Commit, Shard
from teacher_cache.sharing.selection import EVERYTHING, Selection
from teacher_cache.sharing.side import Side, Sources, read_sources
from teacher_cache.storage.part import left_out_sizes
from teacher_cache.storage.state import CacheState, cache_state


@dataclass
class Plan:
    """What to send, in the order of `files`: tars, their indexes, features, failures.

    `there` counts the files that the target has already. `missing` are files that count and that neither side has.
    """

    files: dict[str, Shard] = field(default_factory=dict)  # by path
    sources: list[str] = field(default_factory=list)  # paths of teacher.json and encoder.json
    commits: list[str] = field(default_factory=list)  # digests
    there: int = 0
    left_out: dict[str, int] = field(default_factory=dict)  # the sizes of files not chosen, by path
    listed: dict[str, int] = field(default_factory=dict)  # the sizes of the files that the target has, by path
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # files that are ignored, each with the reason
    live: dict[str, Shard] = field(default_factory=dict)  # the shards that count in both together, by path


def make_plan(source: Side, target: Side, selection: Selection = EVERYTHING, sources: Sources | None = None) -> Plan:
    """Return the plan for copying a selection of a cache into another one. Rows of a task are chosen later."""
    commits = {**source.commits, **target.commits}
    here, there = source.sizes(commits.values()), target.sizes(commits.values())
    listed = _both(commits.values(), here, there)
    kept_out = left_out_sizes(target.part, commits.values(), listed)  # by an earlier pull, and not in this source
    state = cache_state(commits.values(), listed, kept_out)
    files = {file.path: file for live in state.entries.values() for shard in live.values() for file in shard.files()}
    plan = Plan(listed=there, left_out=dict(kept_out), missing=sorted(_missing_files(state, here, there)))
    plan.live = dict(state.live)
    plan.there += target.has_cache  # cache.json
    broken = {file.path for shard in state.missing for file in shard.files()}
    plan.commits = sorted(source.commits.keys() - target.commits.keys())
    for path in sorted(files, key=_order):
        if _has(there, files[path]):
            plan.there += 1
        elif not _has(here, files[path]) or path in broken:
            continue  # without the rest of its shard it would be a file that no commit names
        elif selection.takes_folder(path):
            plan.files[path] = files[path]
        else:
            plan.left_out[path] = files[path].bytes
    _plan_sources(plan, source, target, selection, sources or read_sources(source))
    plan.there += len(source.commits.keys() & target.commits.keys())
    plan.refused |= {f"commits/{name}": reason for name, reason in source.log.refused.items()}
    plan.missing += [f"commits/{name}" for name in source.log.unreadable]
    return plan


def held_back(commits: Mapping[str, Commit], candidates: Collection[str], listed: Mapping[str, int]) -> set[str]:
    """Return which of some commits the target must not get: those of shards that would count there and be missing.

    Args:
        commits: All commits that both sides have, by digest.
        candidates: The digests of those that the target lacks.
        listed: The sizes of the files that the target has, and of those left out on purpose.
    """
    held: set[str] = set()
    while True:
        state = cache_state([commit for digest, commit in commits.items() if digest not in held], listed)
        lacking = {shard.path for shard in state.missing}
        more = {
            entry.commit
            for path in lacking
            for entry in state.entries[path]
            if entry.commit in candidates and not state.is_whole(state.entries[path][entry])
        }
        if not more:
            return held
        held |= more


def _plan_sources(plan: Plan, source: Side, target: Side, selection: Selection, sources: Sources) -> None:
    """Plan the records of the teachers and encoders of shards that count: others are of no use, or a stranger's."""
    there = read_sources(target) if target.has_cache else Sources()
    plan.refused |= sources.refused
    teachers = {path.split("/")[1] for path in plan.live}
    encoders = {tuple(path.split("/")[1:3]) for path in plan.live if path.startswith("features/")}
    for path in sources.found:
        kind, teacher, encoder, *_ = path.split("/")
        is_used = (teacher, encoder) in encoders if kind == "features" else teacher in teachers
        if path in there.found:
            plan.there += 1
        elif is_used and selection.takes_source(path):
            plan.sources.append(path)


def _both(commits: Iterable[Commit], here: Mapping[str, int], there: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of the files that either side has; where the sizes differ, the one that commits state."""
    listed = {**here, **there}
    for commit in commits:
        for shard in commit.added:
            for file in shard.files():
                if _has(here, file) or _has(there, file):
                    listed[file.path] = file.bytes
    return listed


def _missing_files(state: CacheState, here: Mapping[str, int], there: Mapping[str, int]) -> set[str]:
    files = (file for shard in state.missing for file in shard.files())
    return {file.path for file in files if not _has(here, file) and not _has(there, file)}


def _has(listed: Mapping[str, int], file: Shard) -> bool:
    return listed.get(file.path) in (file.bytes, -1)


def _order(path: str) -> tuple[int, str]:
    """Return the place of a file among those to send: what others are derived from comes first."""
    kind = path.split("/")[0] if "/indexes/" not in path else "indexes"
    return ("rewrites", "images", "indexes", "features", "failures").index(kind), path
