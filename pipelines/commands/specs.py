"""The teacher and the encoder that a command needs by name, and the recipe of its prompts; a cache says how to name its
own, and nothing opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.files import check_cache

if TYPE_CHECKING:
    import pyarrow as pa

    from teacher_cache import BuildReport, Cache, Plan, Source, Teacher


def both_named(url: str, teacher: str | None, encoder: str | None) -> tuple[str, str]:
    """Return the specs of a teacher and an encoder.

    Raise ArmadaError if the user has not named both, with the words that name those of the cache, if there is one; and
    if the cache's URL is the path of a file.
    """
    from teacher_cache import ArmadaError, Cache, NoCacheError, spec_to_type

    check_cache(url)
    if teacher is not None and encoder is not None:
        return teacher, encoder
    lacking = "--teacher" if teacher is None else "--encoder"
    try:
        cache = Cache(url)
    except NoCacheError:
        raise ArmadaError(
            f"{lacking} SPEC is missing, for example --teacher pictogram --encoder efficientnet-lite0"
        ) from None
    typed = [
        f"--teacher {spec_to_type(one)} --encoder {spec_to_type(other)}"
        for one in cache.teachers()
        for other in cache.encoders(one)
    ]
    there = f"; {url} has: {' or '.join(typed)}" if typed else ""
    raise ArmadaError(f"{lacking} SPEC is missing{there}")


def with_recipe_options(
    template: str | None, prefix: str | None, suffix: str | None, rewrite: str | None
) -> Callable[[str], str]:
    """Return a function that adds the options to a teacher's spec; see `teacher_cache.with_recipe` for its errors."""
    from teacher_cache import with_recipe

    return lambda teacher: with_recipe(teacher, template=template, prefix=prefix, suffix=suffix, rewrite=rewrite)


def with_rewriting(facts: dict[str, Any], cache: Cache, plan: Plan, teacher: Teacher) -> dict[str, Any]:
    """Return what a plan costs, with what it says of the texts to rewrite, if the teacher has a rewriter: their price,
    `rewriting_usd`, is a part of each cost; a cost is None if a price is unknown."""
    from teacher_cache import rewriting_usd

    if plan.texts is None:
        return facts
    usd = rewriting_usd(cache, plan, teacher)
    costs = {name: facts[name] for name in ("cost_usd", "cost_usd_by_batch") if name in facts}
    whole = {name: None if cost is None or usd is None else cost + usd for name, cost in costs.items()}
    texts = {
        "texts_rewritten": int(plan.texts.at_hand.sum()),
        "texts_to_rewrite": plan.rewrites,
        "texts_failed": plan.texts.failures(),
        "rewriting_usd": usd,
    }
    return texts | facts | whole


def rewritten_fact(report: BuildReport) -> dict[str, Any]:
    """Return the facts of a report; the number of rewritten texts only if the teacher has a rewriter."""
    facts = asdict(report)
    if report.rewritten is None:
        del facts["rewritten"]
    return facts


def drawn_prompts(teacher: Source, prompts: pa.ChunkedArray) -> Sequence[str]:
    """Return the prompts that are drawn for some texts; none if they are not known before they are rewritten."""
    from teacher_cache import recipe_of

    recipe = recipe_of(teacher)
    if recipe is None:
        unchanged: Sequence[str] = prompts
        return unchanged
    return [] if recipe.rewriter else [recipe.drawn(text) for text in prompts.to_pylist()]
