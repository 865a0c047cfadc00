"""Selections: which files of a cache a part of it has, by teacher, encoder and the prompts of a task.

The indexes and failures of the chosen teachers, and what their rewriters made of texts, are always taken: by them a
build knows what it need not pay for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.encoders import open_encoder, source_of_encoder
from teacher_cache.errors import ArmadaError, CacheError, SpecError
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Shard
from teacher_cache.format.recipes import rewriter_of
from teacher_cache.format.sources import Source
from teacher_cache.keys import prompt_key
from teacher_cache.sharing.side import Sources
from teacher_cache.storage.shard_tables import REMOTE_THREADS, read_shard
from teacher_cache.teachers import open_teacher, source_of_teacher


@dataclass(frozen=True)
class PullFilter:
    """The part of a cache that a user wants: the specs or names of a teacher and an encoder, and the prompts of a task.

    None stands for all. With an encoder, no pictures are taken. `task` names the prompts in messages.
    """

    teacher: str | None = None
    encoder: str | None = None
    prompts: Sequence[str] | None = None
    task: str = ""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.teacher is None and self.encoder is None and self.prompts is None

    def in_words(self) -> str:
        """Return what was chosen as options of the command; "" for everything."""
        options = {"--teacher": self.teacher, "--encoder": self.encoder, "--task": self.task or None}
        return " ".join(f"{name} {text}" for name, text in options.items() if text is not None)


@dataclass(frozen=True)
class Selection:
    """The folders of teachers (with their rewriters) and encoders to take, and the prompts' digests; None for all."""

    teachers: frozenset[str] | None = None
    encoders: frozenset[str] | None = None
    prompts: pa.Array | None = None

    def takes_source(self, path: str) -> bool:
        """Return whether to copy a teacher.json, an encoder.json or a rewriter.json."""
        parts = path.split("/")
        if self.teachers is not None and parts[1] not in self.teachers:
            return False
        return parts[0] != "features" or self.encoders is None or parts[2] in self.encoders

    def takes_folder(self, path: str) -> bool:
        """Return whether any file of the folder of a shard or an index is taken."""
        parts = path.split("/")
        if self.teachers is not None and parts[1] not in self.teachers:
            return False
        if parts[0] == "images":
            return parts[2] == "indexes" or self.encoders is None
        return parts[0] != "features" or self.encoders is None or parts[2] in self.encoders

    def takes_all_rows(self, path: str) -> bool:
        """Return whether the rows of a file need not be known: indexes, failures and rewritten prompts are always
        taken."""
        return self.prompts is None or path.startswith(("failures/", "rewrites/")) or path.split("/")[2] == "indexes"


EVERYTHING = Selection()


def select(only: PullFilter, sources: Sources, where: str) -> Selection:
    """Return the selection that a filter means. Raise SpecError if the cache has no such teacher or encoder."""
    if only.is_everything:
        return EVERYTHING
    teachers = {path: source for path, source in sources.found.items() if path.startswith("images/")}
    encoders = {path: source for path, source in sources.found.items() if path.startswith("features/")}
    taken = None
    if only.teacher is not None:
        found = _find(only.teacher, list(teachers.values()), "teacher", where, _open_teacher)
        taken = frozenset([found.name])
    chosen = None
    if only.encoder is not None:
        of_taken = [s for path, s in encoders.items() if taken is None or path.split("/")[1] in taken]
        unique = list({source.digest: source for source in of_taken}.values())
        chosen = frozenset([_find(only.encoder, unique, "encoder", where, _open_encoder).name])
        if taken is None:
            taken = frozenset(path.split("/")[1] for path, s in encoders.items() if s.name in chosen)
    if taken is not None:
        chosen_teachers = [source for source in teachers.values() if source.name in taken]
        taken |= {rewriter.name for rewriter in map(rewriter_of, chosen_teachers) if rewriter}
    keys = None if only.prompts is None else pa.array([prompt_key(text) for text in only.prompts], pa.string())
    return Selection(taken, chosen, keys)


def rows_in(
    store: Store, shards: Mapping[str, Shard], tables: Store, prompts: pa.Array
) -> tuple[set[str], dict[str, str]]:
    """Return the paths of the shards that have a row of the prompts, and those whose rows can't be read, with the
    reason.

    `shards` are those to look into, by path: features are read from `store`, the rows of pictures from the indexes that
    `tables` has.
    """

    def has_rows(shard: Shard) -> tuple[str, bool | str]:
        try:
            source = tables if shard.index else store
            columns = read_shard(source, shard, ["prompt_key"], check=bool(shard.index))
            return shard.path, bool(pc.any(pc.is_in(columns["prompt_key"], prompts)).as_py())
        except CacheError as error:
            return shard.path, str(error)

    with ThreadPoolExecutor(REMOTE_THREADS, "armada-select") as pool:
        found = dict(pool.map(has_rows, shards.values()))
    taken = {path for path, result in found.items() if result is True}
    return taken, {path: result for path, result in found.items() if isinstance(result, str)}


def _find(spec: str, sources: Sequence[Source], noun: str, where: str, opened: Callable[[str], str]) -> Source:
    """Return the source with a name, a recorded text, a kind or a digest; the adapter of the spec tells the last one.

    A student's machine may have none of the packages that the adapter needs: it is opened only if nothing else fits.
    """
    for fits in (
        lambda source: spec in (source.name, source.digest),
        lambda source: source.facts.get("text") == spec,
        lambda source: source.spec.get("kind") == spec,
    ):
        found = [source for source in sources if fits(source)]
        if len(found) == 1:
            return found[0]
    names = ", ".join(source.name for source in sources) or "none"
    try:
        digest = opened(spec)
    except ArmadaError as error:
        raise SpecError(f"{where}: --{noun} {spec}: expected one of: {names} ({error})") from None
    for source in sources:
        if source.digest == digest:
            return source
    raise SpecError(f"{where}: has no {noun} {spec}; expected one of: {names}")


def _open_teacher(spec: str) -> str:
    return source_of_teacher(open_teacher(spec)).digest


def _open_encoder(spec: str) -> str:
    return source_of_encoder(open_encoder(spec)).digest
