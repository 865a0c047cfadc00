"""The demo: real pictures, real labelled text, a real pretrained student, from prompts to an honest table.

Killed and started again, it goes on: the cache and every finished run are kept in the output folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from distill import UNDISTILLED, Split, Splits, TrainSettings, load_card, load_splits
from pipelines.contact_sheet import draw_contact_sheet
from pipelines.files import write_json
from pipelines.run.training import RunRequest, run_training
from teacher_cache import Cache, build, open_encoder, open_teacher

TASK, TEACHER, ENCODER, STUDENT = "demo/sentiment", "pictogram", "efficientnet-lite0", "minilm"
ARMS: dict[str, dict[str, Any]] = {
    "undistilled": {"control": UNDISTILLED},
    "cosine": {"manifold": "cosine"},
    "relational": {"manifold": "relational"},
    "shuffled": {"manifold": "cosine", "control": "shuffled"},
}
SEEDS_TO_TELL = 5


@dataclass(frozen=True)
class DemoSize:
    """How much of the task the demo takes; `train` rows are those of the smallest ids."""

    train: int
    test: int
    seeds: tuple[int, ...]
    epochs: int = 3


FULL = DemoSize(train=1500, test=1000, seeds=(0, 1))
QUICK = DemoSize(train=256, test=512, seeds=(0,))


def run_demo(out: Path, scale: DemoSize) -> dict[str, Any]:
    """Run the demo into `out` and return what `results.json` there holds."""
    from rich.console import Console

    console = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    console.rule("1. The task")
    splits = load_splits(load_card(TASK))
    nothing = Split([], [], [], [])
    splits = Splits(splits.train.first(scale.train), nothing, splits.test.first(scale.test))
    console.print(f"{TASK}: {len(splits.train)} texts to train on, {len(splits.test)} to test on")

    cache = Cache(str(out / "cache"), create=True)
    facts = _build_twice(cache, splits.train.prompts, console)
    sheet = draw_contact_sheet(cache, splits.train.prompts[:12], out / "pictures.png")
    console.print(f"twelve prompts and their pictures: {sheet}")

    runs = []
    for number, seed in enumerate(scale.seeds):
        for place, arm in enumerate(ARMS):
            done = number * len(ARMS) + place + 1
            console.rule(f"3. Student {done} of {len(scale.seeds) * len(ARMS)}: {arm}, seed {seed}")
            runs.append(_run_arm(out, splits, scale, arm, seed))
            console.print(", ".join(f"test {name} {value:.3f}" for name, value in runs[-1]["metrics"].items()))
    results = {"cache": facts, "arms": runs, "verdict": verdict(runs)}
    write_json(out / "results.json", results)
    _print_table(results, out)
    return results


def _build_twice(cache: Cache, prompts: list[str], console: Any) -> dict[str, int]:
    teacher, encoder = open_teacher(TEACHER), open_encoder(ENCODER)
    console.rule(f"2. The cache: teacher {TEACHER}, encoder {ENCODER}")
    first = build(cache, prompts, teacher, encoder)
    second = build(cache, prompts, teacher, encoder)
    console.print(f"first build: {first.calls_total} calls, {first.calls} of them now; second build: {second.calls}")
    return {
        "rows": second.rows,
        "unique_prompts": second.unique_prompts,
        "calls_first_build": first.calls_total,
        "calls_second_build": second.calls,
    }


def _run_arm(out: Path, splits: Splits, scale: DemoSize, arm: str, seed: int) -> dict[str, Any]:
    settings = TrainSettings(epochs=scale.epochs, seed=seed)
    options = dict(ARMS[arm])
    settings = replace(settings, manifold=options.pop("manifold", settings.manifold))
    request = RunRequest(
        task=TASK,
        student=STUDENT,
        out=out / "runs" / f"{scale.train}-rows" / f"{arm}-seed{seed}",
        cache=str(out / "cache"),
        settings=settings,
        **options,
    )
    result = run_training(request, splits)
    return {"arm": arm, "seed": seed, "metrics": result.metrics, "train_seconds": round(result.train_seconds, 2)}


def summary(runs: list[dict[str, Any]], arm: str, metric: str) -> tuple[float, float | None]:
    """Mean and standard deviation over seeds of an arm's metric; no deviation for one seed."""
    values = [run["metrics"][metric] for run in runs if run["arm"] == arm]
    return mean(values), stdev(values) if len(values) > 1 else None


def verdict(runs: list[dict[str, Any]]) -> str:
    """What this run can say. Under five seeds: that it cannot tell, beside what was seen."""
    seeds = len({run["seed"] for run in runs})
    base, shuffled = (summary(runs, arm, "accuracy")[0] for arm in ("undistilled", "shuffled"))
    seen = []
    for arm in ("cosine", "relational"):
        value = summary(runs, arm, "accuracy")[0]
        seen.append(f"{arm} {value - base:+.3f} against undistilled and {value - shuffled:+.3f} against shuffled")
    reason = f"{seeds} seed{'s' * (seeds != 1)}, and at least {SEEDS_TO_TELL} are needed"
    if seeds >= SEEDS_TO_TELL:
        reason = "a verdict needs a test that was fixed beforehand: armada study"
    return f"This run cannot tell whether the pictures helped ({reason}). Seen, test accuracy: {'; '.join(seen)}."


def _print_table(results: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    runs = results["arms"]
    table = Table(title="Test set, mean ± standard deviation over seeds", caption=f"details: {out / 'results.json'}")
    for heading in ("arm", "seeds", "accuracy", "macro F1", "training"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for arm in ARMS:
        mine = [run for run in runs if run["arm"] == arm]
        cells = [_cell(*summary(runs, arm, metric)) for metric in ("accuracy", "macro_f1")]
        table.add_row(arm, str(len(mine)), *cells, f"{mean(run['train_seconds'] for run in mine):.0f} s")
    console = Console()
    console.print(table)
    cache = results["cache"]
    console.print(
        f"Teacher calls: {cache['calls_first_build']} for {cache['unique_prompts']} prompts in the first build, "
        f"{cache['calls_second_build']} in the second, 0 while training."
    )
    console.print(results["verdict"])


def _cell(value: float, spread: float | None) -> str:
    return f"{value:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
