"""The features that a run is taught with: its training rows joined with one teacher's and encoder's in a cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from distill import Card, Splits, View, find_control, join, join_lazily
from pipelines.run.request import RunRequest
from teacher_cache import (
    Cache,
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
    cache = Cache(str(request.cache))
    teacher = source_of_teacher(open_teacher(request.teacher)).digest if request.teacher else None
    control = find_control(request.control)
    if control and control.encoder and not (request.encoder or "").startswith(control.encoder.partition(":")[0]):
        request = replace(request, encoder=control.encoder)
    encoder = source_of_encoder(open_encoder(request.encoder)).digest if request.encoder else None
    chosen = choose(cache, teacher, encoder)
    names = (request.teacher or chosen[0].facts.get("text"), request.encoder or chosen[1].facts.get("text"))
    several = f" --samples {request.samples}" if request.samples > 1 else ""
    words = f"--teacher '{names[0]}' --encoder '{names[1]}' --cache {cache.store}{several}"
    limit = request.max_local_bytes
    features = open_features(cache, *chosen, max_local_bytes=limit)
    how: dict[str, Any] = {
        "drop_missing": request.missing == "drop",
        "control": request.control,
        "seed": request.settings.seed,
        "mend": f"{_prompts_first(request, card)} {words}",
    }
    if limit is None:
        view = join(splits.train, cache, features, samples=request.samples, combine=request.combine, **how)
    else:
        view = join_lazily(splits.train, cache, features, **how)
    shards = sorted(shard.sha256 for shard in cache.shards(f"features/{chosen[0].name}/{chosen[1].name}/"))
    digest = sha256(canonical_json(shards))
    return view, FeatureSource(chosen[0].name, chosen[1].name, view.features.shape[1], digest)


def _prompts_first(request: RunRequest, card: Card) -> str:
    """The start of the command that builds what is missing; a user's rows become prompts by the card's template."""
    file = request.data_files
    if file is None:
        return f"armada cache build {card.name}"
    if card.prompt == "{text}" and file.is_file():
        return f"armada cache build {file}"
    return f"armada tasks {card.name} --data-files {file} --prompts prompts.jsonl && armada cache build prompts.jsonl"
