"""What the texts that a plan lacks cost to rewrite."""

from __future__ import annotations

from teacher_cache.building.plan import Plan
from teacher_cache.rewriting.rows import read_rewrites
from teacher_cache.storage.cache import Cache
from teacher_cache.teachers import Teacher

_ENOUGH = 20  # rewritten texts whose cost is known: their mean is the price of the others


def rewriting_usd(cache: Cache, plan: Plan, teacher: Teacher) -> float | None:
    """Return the dollars that a plan's texts cost to rewrite: by the mean of those that were paid for, or else the most
    that they can. 0 if there is none, None if the price is unknown."""
    rewriter = getattr(teacher, "rewriter", None)
    if rewriter is None or plan.texts is None or not plan.rewrites:
        return 0.0
    if rewriter.price_usd is None:
        return None
    paid = read_rewrites(cache, plan.texts.rewriter, ["cost_usd"])["cost_usd"]
    if len(paid) >= _ENOUGH and not paid.null_count:
        return plan.rewrites * float(sum(paid.to_pylist())) / len(paid)
    price_of = getattr(rewriter, "price_of", lambda text: rewriter.price_usd)
    return float(sum(price_of(text) for text in plan.texts.requests.texts(plan.texts.wanted)))
