"""Prices in words, for the commands that are about to pay: before the first call, also without a cache yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from teacher_cache import PriceNotes, Teacher


def price_facts(notes: PriceNotes, calls: int, each: float | None, spent: float) -> dict[str, Any]:
    """Return the facts of a plan: the price per picture and of all calls, also by batch, and what was spent before."""
    by_batch = {} if notes.batch_usd is None else {"cost_usd_by_batch": calls * notes.batch_usd}
    return {
        "usd_per_picture": each,
        "cost_usd": None if each is None else calls * each,
        **by_batch,
        "spent_usd": spent,
    }


def price_lines(notes: PriceNotes, each: float | None) -> list[str]:
    """Return where a price is from and how old it is, and a warning of the model's retirement."""
    paid = each is not None and each != notes.usd
    basis = "the price is what requests have cost so far in this cache, failed calls included" if paid else ""
    listed = f"{'listed: ' if paid else ''}{notes.basis}" if notes.basis else ""
    return [line for line in (basis, listed, notes.warning) if line]


def warn_of_retirement(teacher: Teacher) -> None:
    """Say on standard error if the teacher's model is retired or will be."""
    from teacher_cache import price_notes

    if warning := price_notes(teacher).warning:
        typer.echo(f"warning: {warning}", err=True)


def offer(notes: PriceNotes, calls: int, whole_calls: int, each: float | None) -> str:
    """Return what a pilot is about to spend, and what the whole would cost, on one line."""
    if each is None:
        known = "at a price that is not known" if notes.basis or notes.usd is None else "free of charge"
        return f"{calls:,} pictures to draw {known}, then {whole_calls:,} for the whole task"
    batch = f", {whole_calls * notes.batch_usd:,.2f} USD by batch" if notes.batch_usd is not None else ""
    return (
        f"{calls:,} pictures to draw at {each:.4f} USD each: {calls * each:,.2f} USD; "
        f"{whole_calls:,} for the whole task: {whole_calls * each:,.2f} USD{batch}"
    )
