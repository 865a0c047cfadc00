"""What to do after a build: sentences, each with the very command, if there is one."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.night.redaction import clean
from teacher_cache import spec_to_type

if TYPE_CHECKING:
    from pipelines.night.facts import Night

_SECRET = ("--notify",)  # options whose value is left out
_ONCE = ("--report",)
_SPARE = 1.05  # prices vary


@dataclass(frozen=True)
class NextStep:
    """What to do and why, and the command for it; "" if there is none."""

    text: str
    command: str = ""


def next_steps(night: Night, words: Sequence[str]) -> tuple[NextStep, ...]:
    """Return what to do next, the most urgent first; `words` are the command line of the build after `armada`."""
    again, cache = command(words), shlex.quote(night.cache)
    named = f"--teacher {spec_to_type(night.teacher)} --encoder {spec_to_type(night.encoder)}"
    steps: list[NextStep] = []
    if night.outcome == "error":
        steps.append(NextStep("Mend what the error says, then run the same command again: it goes on.", again))
    elif night.outcome == "interrupted":
        steps.append(NextStep("Run the same command again: it goes on where it stopped.", again))
    elif night.outcome == "budget":
        steps.append(_raise_budget(night, words))
    elif night.outcome == "batches":
        text = f"{night.in_batches:,} pictures are in batches at the provider. Run the same command again later"
        steps.append(NextStep(f"{text}, or with --wait.", again))
    elif night.missing:
        some = f"{night.missing:,} requested pictures are still missing: another build may be drawing them."
        steps.append(NextStep(f"{some} Run the same command again.", again))
    counts = night.reasons.counts
    caps = "".join(
        f" {name} {shlex.quote(value)}" for name in ("--max-calls", "--budget-usd") if (value := value_of(words, name))
    )
    may_retry = night.outcome not in ("budget", "batches")
    if transient := may_retry * counts.get("transient", 0):
        text = f"Request the {transient:,} that failed transiently (the server, the network) again."
        steps.append(NextStep(text, f"armada cache retry {cache} {named}{caps}"))
    if others := {reason: count for reason, count in counts.items() if reason != "transient"}:
        which = ", ".join(f"{count:,} {reason}" for reason, count in others.items())
        flags = " ".join(f"--reason {shlex.quote(reason)}" for reason in others)
        steps.append(NextStep(f"Look at the rows without a picture: {which}.", f"armada cache browse {cache}"))
        if may_retry:
            text = "On another day, or if the teacher has other rules then, request them again; each costs a call."
            steps.append(NextStep(text, f"armada cache retry {cache} {named}{caps} {flags}"))
    without = night.pictures - night.features
    if without > 0 and night.outcome == "finished":
        text = f"{without:,} pictures have no feature: those of {night.features_refused:,} were no usable numbers."
        steps.append(NextStep(f"{text} Check them with the encoder.", f"armada cache verify {cache} --recompute 100"))
    if any(group.prompts for group in night.look.same):
        text = "Different prompts got the same picture: if it is a notice and no picture, look before you train."
        steps.append(NextStep(text, f"armada cache browse {cache}"))
    elif night.look.same:
        steps.append(
            NextStep("Samples of one prompt are the same picture: the seed is ignored. Build with --samples 1.")
        )
    if night.features:
        steps.append(_train(night, words, cache, named, is_all=night.features >= night.requested))
    return tuple(steps)


def command(words: Sequence[str], **changed: str) -> str:
    """Return the command line as a user types it: without the address that is notified, and without the secrets of
    other addresses; `changed` are new values of options, by their names."""
    kept: list[str] = []
    skipped = False
    drop = (*_SECRET, *_ONCE, *(flag(name) for name in changed))
    for word in words:
        if skipped:
            skipped = False
        elif word in drop:
            skipped = True
        elif not any(word.startswith(f"{name}=") for name in drop):
            kept.append(clean(word))
    for name, value in changed.items():
        kept += [flag(name), value]
    return shlex.join(["armada", *kept])


def flag(name: str) -> str:
    """Return the flag of an option's name: budget_usd is --budget-usd."""
    return "--" + name.replace("_", "-")


def value_of(words: Sequence[str], name: str) -> str | None:
    """Return the value of an option in a command line; None if it is not there."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _raise_budget(night: Night, words: Sequence[str]) -> NextStep:
    """Return the step that raises the caps that the command line has to what the missing pictures need."""
    changed: dict[str, str] = {}
    if value_of(words, "--max-calls") is not None:
        changed["max_calls"] = str(night.calls_total + math.ceil(night.to_draw * _SPARE))
    if value_of(words, "--budget-usd") is not None and night.usd_per_picture is not None:
        needed = (night.cost_usd_total or 0.0) + night.to_draw * night.usd_per_picture * _SPARE
        changed["budget_usd"] = f"{math.ceil(needed * 100) / 100:.2f}"
    text = f"{night.to_draw:,} pictures are missing. Raise the budget to draw them all, or leave it at that."
    return NextStep(text, command(words, **changed))


def _train(night: Night, words: Sequence[str], cache: str, named: str, *, is_all: bool) -> NextStep:
    """Return the step that trains: by the card or the rows that the build was given, else without labels."""
    source, task = night.prompts, value_of(words, "--task")
    label = value_of(words, "--label-column")
    text = value_of(words, "--text-column")
    is_card = task is None and not os.path.exists(source) and not Path(source).suffix
    is_card = is_card or Path(source).suffix in (".yaml", ".yml")
    columns = [*(["--text-column", text] if text else []), *(["--label-column", label] if label else [])]
    kind, samples = value_of(words, "--type"), value_of(words, "--samples")
    drop = "" if is_all else " --missing drop"
    end = f"--student minilm --cache {cache} {named}{f' --samples {samples}' if samples else ''} --out runs/first{drop}"
    if task:
        rows = [source, "--task", task]
    elif is_card:
        rows = ["--task", source]
    elif label:
        rows = [source, *columns, *(["--type", kind] if kind else [])]
    else:
        line = shlex.join(["armada", "pretrain", clean(source), *columns])
        some = " on the texts that have a picture" if drop else ""
        lead = f"Pre-train a student{some}; with labelled rows, train on them by armada train."
        return NextStep(lead, f"{line} {end}")
    line = shlex.join(["armada", "train", *map(clean, rows)])
    lead = "Train a student" + (" on the rows that have a picture." if drop else ": every row has its picture.")
    return NextStep(lead, f"{line} {end}")
