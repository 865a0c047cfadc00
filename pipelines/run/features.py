"""The features that a run is taught with: its training rows joined with one teacher's and encoder's in a cache."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from distill import Card, Mending, Split, Splits, View, find_control, join, join_lazily, spec_text
from pipelines.run.request import RunRequest
from teacher_cache import (
    Cache,
    CoverageError,
    NotBuiltError,
    canonical_json,
    choose,
    open_encoder,
    open_features,
    open_teacher,
    sha256,
    source_of_encoder,
    source_of_teacher,
)


@dataclass(frozen=True)
class FeatureSource:
    """Where the features come from: `digest` names all the shards that they were read from."""

    teacher: str
    encoder: str
    dimension: int
    digest: str


def join_view(request: RunRequest, card: Card, splits: Splits) -> tuple[View, FeatureSource]:
    """The view of a run and where its features come from. Raises CoverageError with the command that fills a gap."""
    return join_rows(request, splits.train, lambda cache: card_mending(request, card, cache))


def join_rows(request: RunRequest, rows: Split, mending: Callable[[Cache], Mending]) -> tuple[View, FeatureSource]:
    """The view of any rows, as of `join_view`. `mending` makes the commands that fill a gap of a cache."""
    cache = Cache(str(request.cache))
    teacher = source_of_teacher(open_teacher(request.teacher)).digest if request.teacher else None
    control = find_control(request.control)
    if control and control.encoder and not (request.encoder or "").startswith(control.encoder.partition(":")[0]):
        request = replace(request, encoder=control.encoder)
    encoder = source_of_encoder(open_encoder(request.encoder)).digest if request.encoder else None
    try:
        chosen = choose(cache, teacher, encoder)
    except NotBuiltError as error:
        raise CoverageError(f"{error}\n{mending(cache).advice()}") from None
    limit = request.max_local_bytes
    features = open_features(cache, *chosen, max_local_bytes=limit)
    how: dict[str, Any] = {
        "drop_missing": request.missing == "drop",
        "control": request.control,
        "seed": request.settings.seed,
        "mend": mending(cache),
    }
    if limit is None:
        view = join(rows, cache, features, samples=request.samples, combine=request.combine, **how)
    else:
        view = join_lazily(rows, cache, features, **how)
    shards = sorted(shard.sha256 for shard in cache.shards(f"features/{chosen[0].name}/{chosen[1].name}/"))
    digest = sha256(canonical_json(shards))
    return view, FeatureSource(chosen[0].name, chosen[1].name, view.features.shape[1], digest)


def card_mending(request: RunRequest, card: Card, cache: Cache) -> Mending:
    """Return the commands that build what a run's training looks for, from the same rows by the same card.

    A teacher or an encoder that the request doesn't name is the only one that the cache has.
    """
    names = specs_of(request, cache)
    prompts: tuple[str, ...] = (card.name,)
    note = ["tasks", card.name, "--prompts", "prompts.jsonl"]
    if request.data_files is not None:
        prompts = (str(request.data_files), "--task", card.name)
        note = ["tasks", card.name, "--data-files", str(request.data_files), "--prompts", "prompts.jsonl"]
    listed = f"these prompts are listed by: {shlex.join(['armada', *note])}"
    return Mending(prompts, *names, str(cache.store), request.samples, listed)


def specs_of(request: RunRequest, cache: Cache) -> tuple[str, str]:
    """Return the specs of teacher and encoder for a command: those requested, or the only ones that there are."""
    teachers = cache.teachers() if not (request.teacher and request.encoder) else []
    teacher = teachers[0] if len(teachers) == 1 else None
    encoders = cache.encoders(teacher) if teacher and not request.encoder else []
    only = encoders[0] if len(encoders) == 1 else None
    return request.teacher or spec_text(teacher), request.encoder or spec_text(only)
