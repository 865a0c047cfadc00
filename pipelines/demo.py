"""The demo: real pictures, real labelled text and a real pretrained student, from prompts to a table of results.

A demo that was killed resumes: its output folder keeps the cache and every finished run.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from distill import UNDISTILLED, Split, Splits, TrainSettings, load_card, load_splits
from pipelines.cleaning import remove_derived, remove_student
from pipelines.contact_sheet import draw_contact_sheet
from pipelines.demo_few_shot import (
    ARMS as FEW_SHOT_ARMS,
    LABELLED,
    PICTURES,
    SHUFFLED,
    STUDENT as FEW_SHOT_STUDENT,
    run_few_shot,
)
from pipelines.files import check_folder, write_json
from pipelines.run.training import RunRequest, run_training
from pipelines.study.statistics import SEEDS_TO_TELL
from teacher_cache import Cache, build, open_encoder, open_teacher

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TASK, TEACHER, ENCODER, STUDENT = "demo/sentiment", "pictogram", "efficientnet-lite0", "minilm"
KEPT_ARM = PICTURES  # whose first student is kept, to be looked at
ARMS: dict[str, str | None] = {"undistilled": UNDISTILLED, PICTURES: None, SHUFFLED: "shuffled"}  # and its control


@dataclass(frozen=True)
class DemoSize:
    """How much of the task the demo uses; `train` and `test` count the rows with the smallest ids."""

    train: int
    test: int
    seeds: tuple[int, ...]
    epochs: int = 3
    pretraining: int = 8  # epochs, of the students with few labels


FULL = DemoSize(train=1500, test=1000, seeds=(0, 1))
QUICK = DemoSize(train=256, test=512, seeds=(0,))


Stopping = Callable[[], AbstractContextManager[Callable[[], bool]]]


def run_demo(out: Path, size: DemoSize, stopping: Stopping = lambda: nullcontext(lambda: False)) -> dict[str, Any]:
    """Run the demo in the folder `out` and return the content of its `results.json`.

    `stopping` makes the context of a build, which tells it when to stop; a build that was stopped ends the demo with
    KeyboardInterrupt.
    """
    from rich.console import Console

    console = Console(stderr=True)
    check_folder("--out", out)
    out.mkdir(parents=True, exist_ok=True)
    console.rule("1. The task")
    splits = load_splits(load_card(TASK))
    nothing = Split([], [], [], [])
    splits = Splits(splits.train.first(size.train), nothing, splits.test.first(size.test))
    console.print(f"{TASK}: {len(splits.train)} texts to train on, {len(splits.test)} to test on")

    cache = Cache(str(out / "cache"), create=True)
    facts = _build_twice(cache, splits.train.prompts, console, stopping)
    sheet = draw_contact_sheet(cache, splits.train.prompts[:12], out / "pictures.png")
    console.print(f"twelve prompts and their pictures: {sheet}")

    def run_all(title: str, arms: Iterable[str], train: Callable[[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
        runs = []
        for seed, arm in product(size.seeds, arms):
            console.rule(f"{title}: {arm}, seed {seed}")
            runs.append(train(arm, seed))
            console.print(", ".join(f"test {name} {value:.3f}" for name, value in runs[-1]["metrics"].items()))
        return runs

    runs = run_all("3. MiniLM with all labels", ARMS, lambda arm, seed: _run_arm(out, splits, size, arm, seed))
    few = run_all(
        f"4. A small student with {LABELLED} labels",
        FEW_SHOT_ARMS,
        lambda arm, seed: run_few_shot(out, TASK, splits, arm, seed, size.pretraining),
    )
    results = {"cache": facts, "arms": runs, "few_shot": few, "verdict": verdict(runs)}
    write_json(out / "results.json", results)
    remove_derived(cache)
    _print_tables(results, out)
    return results


def _build_twice(cache: Cache, prompts: list[str], console: Console, stopping: Stopping) -> dict[str, int]:
    teacher, encoder = open_teacher(TEACHER), open_encoder(ENCODER)
    console.rule(f"2. The cache: teacher {TEACHER}, encoder {ENCODER}")
    with stopping() as stop:
        first = build(cache, prompts, teacher, encoder, stop=stop)
        second = build(cache, prompts, teacher, encoder, stop=stop)
    if first.stopped or second.stopped:
        raise KeyboardInterrupt
    console.print(f"first build: {first.calls_total} calls, {first.calls} of them now; second build: {second.calls}")
    return {
        "rows": second.rows,
        "unique_prompts": second.unique_prompts,
        "calls_first_build": first.calls_total,
        "calls_second_build": second.calls,
    }


def _run_arm(out: Path, splits: Splits, size: DemoSize, arm: str, seed: int) -> dict[str, Any]:
    request = RunRequest(
        task=TASK,
        student=STUDENT,
        out=out / "runs" / f"{size.train}-rows" / f"{arm.replace(' ', '-')}-seed{seed}",
        cache=str(out / "cache"),
        control=ARMS[arm],
        settings=TrainSettings(epochs=size.epochs, seed=seed),  # by the objective that `armada train` has by default
    )
    result = run_training(request, splits)
    if (arm, seed) != (KEPT_ARM, size.seeds[0]):
        remove_student(request.out)
    return {"arm": arm, "seed": seed, "metrics": result.metrics, "train_seconds": round(result.train_seconds, 2)}


def summary(runs: list[dict[str, Any]], arm: str, metric: str) -> tuple[float, float | None]:
    """Return the mean and standard deviation over seeds of an arm's metric; the deviation is None for one seed."""
    values = [run["metrics"][metric] for run in runs if run["arm"] == arm]
    return mean(values), stdev(values) if len(values) > 1 else None


def verdict(runs: list[dict[str, Any]]) -> str:
    """Return the conclusion that the runs allow, always "cannot tell", with the reason and the measured differences."""
    seeds = len({run["seed"] for run in runs})
    base, value, shuffled = (summary(runs, arm, "accuracy")[0] for arm in ARMS)
    found = f"{PICTURES} {value - base:+.3f} against undistilled and {value - shuffled:+.3f} against {SHUFFLED}"
    reason = f"{seeds} seed{'s' * (seeds != 1)}, and at least {SEEDS_TO_TELL} are needed"
    if seeds >= SEEDS_TO_TELL:
        reason = "a verdict needs a test that was fixed beforehand: armada study"
    return f"This run cannot tell whether the pictures helped ({reason}). Measured, test accuracy: {found}."


def _print_tables(results: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table(f"{STUDENT}, all labels", results["arms"], ARMS, out))
    console.print(_table(f"{FEW_SHOT_STUDENT}, {LABELLED} labels, after", results["few_shot"], FEW_SHOT_ARMS, out))
    cache = results["cache"]
    console.print(
        f"Teacher calls: {cache['calls_first_build']} for {cache['unique_prompts']} prompts in the first build, "
        f"{cache['calls_second_build']} in the second, 0 while training."
    )
    console.print(results["verdict"])
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    console.print(
        f"{out} holds {size / 1e6:.0f} MB: the cache, one trained student, those before fine-tuning, and the figures. "
        f"Look at the pictures by `armada cache browse {shlex.quote(str(out / 'cache'))}`; remove all of it by "
        f"`rm -r {shlex.quote(str(out))}`.",
        soft_wrap=True,
    )


def _table(title: str, runs: list[dict[str, Any]], arms: Iterable[str], out: Path) -> Table:
    from rich.table import Table

    table = Table(title=f"{title}: test set, mean ± sd over seeds", caption=f"details: {out / 'results.json'}")
    for heading in ("arm", "seeds", "accuracy", "macro F1", "training"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for arm in arms:
        mine = [run for run in runs if run["arm"] == arm]
        cells = [_cell(*summary(runs, arm, metric)) for metric in ("accuracy", "macro_f1")]
        table.add_row(arm, str(len(mine)), *cells, f"{mean(run['train_seconds'] for run in mine):.0f} s")
    return table


def _cell(value: float, spread: float | None) -> str:
    return f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
