"""The pilot of a task: draw a few hundred of its prompts into the cache, and judge whether the rest is worth its price.

The pictures are drawn and kept as any build's: the build of the whole task later pays for none of them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill import Card, Split, Splits, join
from pipelines.pilot.judgement import Judgement, judge_pilot
from pipelines.pilot.knowledge import labelled
from pipelines.pilot.looks import FIRST, look_of
from teacher_cache import (
    ArmadaError,
    BuildOptions,
    BuildReport,
    Cache,
    CoverageError,
    Encoder,
    Source,
    Teacher,
    build_requests,
    expected_price,
    expected_seconds,
    image_key,
    make_plan,
    make_requests,
    open_features,
    price_notes,
    prompt_key,
    source_of_encoder,
    source_of_teacher,
)

TYPES = ("classification", "choice", "regression")


@dataclass(frozen=True)
class PilotOptions:
    """How many unique prompts to draw, what may be spent, and what is worth having."""

    prompts: int = 300
    max_calls: int | None = None
    budget_usd: float | None = None
    margin: float = 0.05  # a smaller gain over shuffled pictures is not worth it
    level: float = 0.05  # the chance of a wrong "worth it", over all looks


@dataclass(frozen=True)
class Price:
    """What the pilot's pictures cost, and what the whole task would. Intervals have 95 % confidence; a cost is None if
    it is not known, and so are the seconds before a rate was measured on this host."""

    calls: int  # of this command
    cost_usd: float  # of this command
    refused: float  # share of the pilot's prompts that the teacher refused or failed, transient failures left out
    refused_low: float
    refused_high: float
    failures: dict[str, int]
    usd_per_picture: float | None
    whole_prompts: int
    whole_calls: int  # that are still to be made
    whole_usd: float | None
    whole_usd_low: float | None
    whole_usd_high: float | None
    whole_seconds: float | None


@dataclass(frozen=True)
class Pilot:
    """The result of a pilot. `judgement` is None if too few pictures are there; `note` says what is."""

    task: str
    teacher: str
    encoder: str
    text_encoder: str | None
    prompts: int
    stopped: str  # "", "budget" or "interrupted"
    price: Price
    judgement: Judgement | None
    note: str


def run_pilot(
    card: Card,
    splits: Splits,
    cache: Cache,
    teacher: Teacher,
    encoder: Encoder,
    text_encoder: Encoder | None,
    options: PilotOptions,
    stop: Callable[[], bool] = lambda: False,
    announce: Callable[[int, int, float | None], None] = lambda calls, whole_calls, each: None,
) -> Pilot:
    """Draw and encode the first prompts of a task's training rows and judge them.

    `text_encoder` embeds the prompts themselves, for comparison. `announce` is told, before the first call, how many
    pictures the pilot and the whole task still need, and the dollars that one is expected to cost. Raise ArmadaError
    for a task without labels that a linear model can predict, or with fewer than FIRST training rows.
    """
    if card.type not in TYPES:
        raise ArmadaError(f"armada pilot: expected a task of {', '.join(TYPES)}; {card.name} is {card.type}")
    rows = _first_prompts(splits.train, options.prompts)
    if len(rows.questions) < FIRST:
        raise ArmadaError(
            f"armada pilot: expected at least {FIRST} labelled training rows (of choices, questions), found "
            f"{len(rows.questions)} with the first {options.prompts} prompts; raise --prompts, or use all rows"
        )
    source = source_of_teacher(teacher)
    requests = make_requests(source, rows.prompts)
    whole = make_requests(source, splits.train.prompts)
    counts = [make_plan(cache, source, source_of_encoder(encoder), some).calls for some in (requests, whole)]
    announce(counts[0], counts[1], _each(cache, source, teacher))
    spending = BuildOptions(
        max_calls=options.max_calls, budget_usd=options.budget_usd, wait=True, prompts=f"pilot of {card.name}"
    )
    report = build_requests(cache, requests, teacher, encoder, spending, stop=stop)
    pictures, kept = _features(cache, source, source_of_encoder(encoder), rows)
    text = None
    if text_encoder and not report.stopped and len(kept):
        build_requests(cache, requests, teacher, text_encoder, replace(spending, max_calls=0), stop=stop)
        text, kept_too = _features(cache, source, source_of_encoder(text_encoder), kept)
        text = text if len(kept_too) == len(kept) else None
    look = look_of(options.level, len(kept.questions))
    judgement = None
    if look:
        places = [row for question in kept.questions[: look.rows] for row in question]
        judged = kept.take(places)
        judgement = judge_pilot(
            labelled(card.type, judged.labels, judged.groups or judged.prompts),
            pictures[places],
            text[places] if text is not None else None,
            look,
            level=options.level,
            margin=options.margin,
        )
    return Pilot(
        task=card.name,
        teacher=source.name,
        encoder=source_of_encoder(encoder).name,
        text_encoder=source_of_encoder(text_encoder).name if text_encoder and text is not None else None,
        prompts=requests.unique_prompts,
        stopped=report.stopped,
        price=_price(cache, source, source_of_encoder(encoder), rows, splits.train, teacher, report),
        judgement=judgement,
        note="" if judgement else f"{len(kept.questions)} labelled rows have a picture; a judgement needs {FIRST}",
    )


def _first_prompts(rows: Split, prompts: int) -> Split:
    """Return the first questions (or rows) whose unique prompts are at most so many: the order is that of the rows'
    digests, so that a larger pilot has the rows of a smaller one."""
    seen: set[str] = set()
    for count, question in enumerate(rows.questions):
        seen.update(rows.prompts[row] for row in question)
        if len(seen) > prompts:
            return rows.take_questions(range(count))
    return rows


def _features(cache: Cache, teacher: Source, encoder: Source, rows: Split) -> tuple[np.ndarray, Split]:
    """Return the features (N, L) of the rows that have one, and those rows; of a question all choices have one."""
    try:
        view = join(rows, cache, open_features(cache, teacher, encoder), drop_missing=True)
    except CoverageError:  # none has one
        return np.empty((0, 0), np.float32), rows.take([])
    return np.asarray(view.features), view.split


def _each(cache: Cache, source: Source, teacher: Teacher) -> float | None:
    """Return the dollars that a picture is expected to cost, as `armada cache plan` says it."""
    notes = price_notes(teacher)
    return expected_price(cache, source, notes.usd, is_exact=notes.is_exact)


def _price(
    cache: Cache, teacher: Source, encoder: Source, rows: Split, whole: Split, opened: Teacher, report: BuildReport
) -> Price:
    from statsmodels.stats.proportion import proportion_confint

    prompts = list(dict.fromkeys(rows.prompts))
    images = cache.images(teacher, ["cost_usd"])
    keys = pa.array([image_key(teacher.digest, prompt_key(prompt)) for prompt in prompts])
    drawn = images.filter(pc.is_in(images["image_key"], keys))
    costs = drawn["cost_usd"]
    paid = costs.drop_null().to_numpy()
    failed = cache.failures(teacher)
    failed = failed.filter(
        pc.and_(
            pc.is_in(failed["image_key"], keys),
            pc.invert(pc.is_in(failed["image_key"], drawn["image_key"].combine_chunks())),
        )
    )
    failures = dict(Counter(failed["reason"].to_pylist()))
    refused = sum(count for reason, count in failures.items() if reason != "transient")
    low, high = proportion_confint(refused, len(costs) + refused, method="wilson") if len(costs) + refused else (0, 1)
    requests = make_requests(teacher, whole.prompts)
    plan = make_plan(cache, teacher, encoder, requests)
    each = _each(cache, teacher, opened)
    half = 1.96 * float(paid.std(ddof=1)) / len(paid) ** 0.5 if each is not None and len(paid) > 1 else 0.0
    usd = [None if each is None else plan.calls * max(0.0, each + sign * half) for sign in (0, -1, 1)]
    return Price(
        calls=report.calls,
        cost_usd=report.cost_usd,
        refused=refused / max(1, len(costs) + refused),
        refused_low=float(low),
        refused_high=float(high),
        failures=failures,
        usd_per_picture=each,
        whole_prompts=requests.unique_prompts,
        whole_calls=plan.calls,
        whole_usd=usd[0],
        whole_usd_low=usd[1],
        whole_usd_high=usd[2],
        whole_seconds=expected_seconds(cache, teacher, encoder, plan),
    )
