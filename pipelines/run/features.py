"""The features that a run is taught with: its training rows joined with one teacher's and encoder's in a cache, or with
those of a user's file."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill import (
    Card,
    FileMending,
    Mending,
    Split,
    Splits,
    View,
    find_control,
    join,
    join_lazily,
    open_own_features,
    spec_text,
)
from pipelines.run.request import RunRequest
from pipelines.run.task import say
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
    spec_to_type,
)

OWN = "own-features"  # instead of the names of a teacher and an encoder


@dataclass(frozen=True)
class FeatureSource:
    """Where the features come from: `digest` names all the shards that they were read from, or the user's file."""

    teacher: str
    encoder: str
    dimension: int
    digest: str


def join_view(request: RunRequest, card: Card, splits: Splits) -> tuple[View, FeatureSource]:
    """The view of a run and where its features come from. Raises CoverageError with the command that fills a gap."""
    return join_rows(request, card, splits.train, lambda cache: card_mending(request, cache))


def join_rows(
    request: RunRequest, card: Card | None, rows: Split, mending: Callable[[Cache], Mending]
) -> tuple[View, FeatureSource]:
    """The view of any rows, as of `join_view`. `mending` makes the commands that fill a gap of a cache. With `card`,
    the features that are taken where none are named are printed."""
    if request.features is not None:
        return _join_own(request, request.features, rows)
    cache = Cache(str(request.cache))
    teacher = _teacher_digest(cache, request.teacher) if request.teacher else None
    control = find_control(request.control)
    if control and control.encoder and not (request.encoder or "").startswith(control.encoder.partition(":")[0]):
        request = replace(request, encoder=control.encoder)
    encoder = _encoder_digest(cache, request.encoder) if request.encoder else None
    try:
        chosen = choose(cache, teacher, encoder)
    except NotBuiltError as error:
        raise CoverageError(f"{error}\n{mending(cache).advice()}") from None
    if card and (teacher is None or encoder is None):
        words = f"--teacher {spec_to_type(chosen[0])} --encoder {spec_to_type(chosen[1])}"
        say(card, [f"features: {words}, since none are named"])
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


def _join_own(request: RunRequest, path: Path, rows: Split) -> tuple[View, FeatureSource]:
    """The view of the features in a user's file. What names the run is their content, not the file."""
    features = open_own_features(path, request.feature_keys, rows)
    prompts = rows.prompts[:2]
    wanted = prompts if features.kind == "prompt" else list(features.keys_of(rows.take(range(len(prompts)))))
    how: dict[str, Any] = {
        "drop_missing": request.missing == "drop",
        "control": request.control,
        "seed": request.settings.seed,
        "mend": FileMending(str(path), features.kind, features.some_keys, tuple(wanted), _listing(request)),
    }
    if request.max_local_bytes is None:
        view = join(rows, None, features, samples=request.samples, combine=request.combine, **how)
    else:
        view = join_lazily(rows, None, features, **how)
    return view, FeatureSource(OWN, OWN, view.features.shape[1], features.digest)


def _listing(request: RunRequest) -> str:
    """Return a sentence with the command that lists the prompts of a run's training rows; "" if they are the rows."""
    if not request.task:
        return ""
    files = ["--data-files", str(request.data_files)] if request.data_files is not None else []
    words = ["armada", "tasks", request.task, *files, "--prompts", "prompts.jsonl"]
    return f"these prompts are listed by: {shlex.join(words)}"


def _teacher_digest(cache: Cache, text: str) -> str:
    """Return the digest of a teacher, by its name in the cache or by its spec."""
    named = [source.digest for source in cache.teachers() if source.name == text]
    return named[0] if named else source_of_teacher(open_teacher(text)).digest


def _encoder_digest(cache: Cache, text: str) -> str:
    """Return the digest of an encoder, by its name in the cache or by its spec."""
    sources = [source for teacher in cache.teachers() for source in cache.encoders(teacher)]
    named = [source.digest for source in sources if source.name == text]
    return named[0] if named else source_of_encoder(open_encoder(text)).digest


def card_mending(request: RunRequest, cache: Cache) -> Mending:
    """Return the commands that build what a run's training looks for, from the same rows by the same card.

    A teacher or an encoder that the request doesn't name is the only one that the cache has.
    """
    files = str(request.data_files) if request.data_files is not None else None
    prompts: tuple[str, ...]
    if request.task:
        prompts = (files, "--task", request.task) if files else (request.task,)
    else:
        columns = ("--text-column", str(request.text_column), "--label-column", str(request.label_column))
        kind = ("--type", request.type) if request.type else ()
        prompts = (str(request.rows), *columns, *kind)
    return Mending(prompts, *specs_of(request, cache), str(cache.store), request.samples, _listing(request))


def specs_of(request: RunRequest, cache: Cache) -> tuple[str, str]:
    """Return the specs of teacher and encoder for a command: those requested, or the only ones that there are."""
    teachers = cache.teachers() if not (request.teacher and request.encoder) else []
    teacher = teachers[0] if len(teachers) == 1 else None
    encoders = cache.encoders(teacher) if teacher and not request.encoder else []
    only = encoders[0] if len(encoders) == 1 else None
    return request.teacher or spec_text(teacher), request.encoder or spec_text(only)
