"""The command line. Every import that costs time stands inside the command that needs it."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipelines.commands.browse import browse
from pipelines.commands.cache import AsJson, cache_app
from pipelines.commands.interrupts import Interruptible
from pipelines.commands.maintenance import compact, export, merge, verify
from pipelines.commands.studies import report, study

app = typer.Typer(
    cls=Interruptible,
    help="Pay a text-to-image teacher once, train text-only students from its cache, know whether the pictures helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (verify, compact, merge, export, browse):
    cache_app.command()(command)
app.add_typer(cache_app, name="cache")
app.command()(study)
app.command()(report)


@app.command()
def demo(
    out: Annotated[Optional[Path], typer.Option("--out", help="Where to write; default armada-demo.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="256 training rows and one seed.")] = False,
) -> None:
    """The whole idea on real data: a cache, the same build again, four kinds of student, an honest table."""
    from pipelines.demo import FULL, QUICK, run_demo

    scale = QUICK if quick else FULL
    run_demo(out or Path("armada-demo-quick" if quick else "armada-demo"), scale)


DataFiles = Annotated[
    Optional[Path],
    typer.Option("--data-files", help="Training rows in the card's columns; or a folder with train.* and test.*."),
]


@app.command()
def tasks(
    name: Annotated[Optional[str], typer.Argument(help="Show this card.")] = None,
    prompts: Annotated[
        Optional[Path], typer.Option("--prompts", help="Write its training rows' prompts here, for armada cache build.")
    ] = None,
    data_files: DataFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the task cards, show one, or write the prompts that its teacher is to be asked."""
    from distill import card_names, load_card
    from teacher_cache import ArmadaError

    if prompts and not name:
        raise ArmadaError("--prompts: expected the task's name before it")
    if name and prompts:
        _write_prompts(name, prompts, data_files, as_json)
    elif name:
        facts = load_card(name).model_dump(exclude_none=True)
        typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else _yaml(facts))
    elif as_json:
        typer.echo(json.dumps({"tasks": [load_card(n).model_dump() for n in card_names()]}, ensure_ascii=False))
    else:
        for card in map(load_card, card_names()):
            typer.echo(f"{card.name:26} {card.type:16} {card.title}")


def _write_prompts(name: str, path: Path, data_files: Path | None, as_json: bool) -> None:
    from distill import load_card, load_splits
    from teacher_cache import ArmadaError

    if path.suffix != ".jsonl":
        raise ArmadaError(f"--prompts: expected a file ending in .jsonl, found {path}")
    texts = load_splits(load_card(name), data_files).train.prompts
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    typer.echo(json.dumps({"prompts": len(texts), "path": str(path)}) if as_json else f"{len(texts)} prompts: {path}")


@app.command()
def train(
    task: Annotated[str, typer.Option("--task", help="A task card's name.")],
    student: Annotated[str, typer.Option("--student", help="minilm, smollm2, a folder or a hub id.")],
    out: Annotated[Path, typer.Option("--out", help="Where the run is written.")],
    cache: Annotated[Optional[str], typer.Option("--cache", help="The cache with the training rows' features.")] = None,
    teacher: Annotated[Optional[str], typer.Option("--teacher", help="Needed where the cache has several.")] = None,
    encoder: Annotated[Optional[str], typer.Option("--encoder", help="Needed where the cache has several.")] = None,
    manifold: Annotated[
        str, typer.Option("--manifold", help="cosine, euclid, pointwise, relational or none.")
    ] = "cosine",
    alpha: Annotated[float, typer.Option("--alpha", help="Weight of output alignment; the task has 1 - alpha.")] = 0.5,
    beta: Annotated[float, typer.Option("--beta", help="Weight of the manifold loss.")] = 1.0,
    gamma: Annotated[float, typer.Option("--gamma", help="Weight of the auxiliary heads.")] = 1.0,
    temperature: Annotated[float, typer.Option("--temperature", help="Of output alignment.")] = 5.0,
    control: Annotated[
        Optional[str],
        typer.Option(
            "--control",
            help="undistilled, shuffled, noise, zero, random-per-picture, text-embedding, aux-only, frozen-aligner or "
            "parameter-matched.",
        ),
    ] = None,
    data_files: DataFiles = None,
    missing: Annotated[
        Optional[str], typer.Option("--missing", help="drop: train on the rows that have a feature.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Pictures a prompt that a row is taught by.")] = 1,
    combine: Annotated[
        str, typer.Option("--combine", help="Of several: mean, the features' mean; or draw, another one each epoch.")
    ] = "mean",
    epochs: Annotated[int, typer.Option("--epochs")] = 3,
    batch_size: Annotated[int, typer.Option("--batch-size")] = 32,
    lr: Annotated[float, typer.Option("--lr")] = 5e-5,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    max_steps: Annotated[Optional[int], typer.Option("--max-steps", min=1)] = None,
    max_length: Annotated[int, typer.Option("--max-length", min=8, help="Tokens a row; longer ones are cut.")] = 128,
    accumulate: Annotated[int, typer.Option("--accumulate", help="Parts that a batch is computed in.")] = 1,
    recipe: Annotated[
        Optional[str], typer.Option("--recipe", help="paper: the reference's schedule, picked on the reported split.")
    ] = None,
    select: Annotated[
        Optional[str], typer.Option("--select", help="last, or the best epoch on: validation, test.")
    ] = None,
    layers: Annotated[Optional[int], typer.Option("--layers", min=1, help="Keep the student's first N layers.")] = None,
    lora_rank: Annotated[
        Optional[int], typer.Option("--lora-rank", min=1, help="Train low-rank layers and the task head only.")
    ] = None,
    lora_targets: Annotated[
        Optional[str], typer.Option("--lora-targets", help="Layers' names, with commas; default: every linear one.")
    ] = None,
    load_4bit: Annotated[
        bool, typer.Option("--load-4bit", help="With --lora-rank: the frozen weights in four bits while training.")
    ] = False,
    save_steps: Annotated[int, typer.Option("--save-steps", min=1, help="Steps between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Checkpoints that are kept.")] = 2,
    max_local_bytes: Annotated[
        Optional[int],
        typer.Option("--max-local-bytes", min=1, help="Larger features are read from the shards, in windows."),
    ] = None,
    track: Annotated[
        Optional[str], typer.Option("--track", help="accelerate's trackers, with commas, for example tensorboard.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a student on a task and a cache's features; write a plain Hugging Face checkpoint and run.json."""
    from distill import PAPER_ALIGNER, PAPER_LAYERS, AlignerSettings, TrainSettings, paper_recipe
    from pipelines.run.training import RunRequest, run_training
    from teacher_cache import ArmadaError

    if missing not in (None, "drop"):
        raise ArmadaError(f"--missing: expected drop, found {missing!r}")
    settings = TrainSettings(
        manifold=manifold,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        temperature=temperature,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        max_steps=max_steps,
        accumulate=accumulate,
        max_length=max_length,
    )
    if recipe not in (None, "paper"):
        raise ArmadaError(f"--recipe: expected paper, found {recipe!r}")
    if recipe:
        settings = paper_recipe(settings)
    if select:
        settings = replace(settings, select=select)
    request = RunRequest(
        task=task,
        student=student,
        out=out,
        cache=cache,
        teacher=teacher,
        encoder=encoder,
        control=control,
        data_file=data_files,
        drop_missing=missing == "drop",
        samples=samples,
        combine=combine,
        settings=settings,
        layers=PAPER_LAYERS if recipe and layers is None else layers,
        aligner=PAPER_ALIGNER if recipe else AlignerSettings(),
        lora_rank=lora_rank,
        lora_targets=tuple(lora_targets.split(",")) if lora_targets else None,
        load_4bit=load_4bit,
        save_steps=save_steps,
        keep=keep,
        max_local_bytes=max_local_bytes,
        trackers=tuple(track.split(",")) if track else (),
    )
    result = run_training(request)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first one speaks
        return
    if as_json:
        typer.echo(json.dumps({"out": str(out), **asdict(result)}))
        return
    if result.reused:
        typer.echo(f"this run is in {out} already")
    for name, value in result.metrics.items():
        typer.echo(f"test {name:12} {value:.4f}")
    typer.echo(f"student: {out / 'student'}")


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()


def main() -> None:
    """The console script: an error that a user can mend is one message and its exit code, no traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # transformers loads it, wanted or not, and it warns
    try:
        app()
    except Exception as error:
        exit_code = getattr(error, "exit_code", None)
        if type(error).__module__.startswith("typer") or exit_code is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_code) from None


if __name__ == "__main__":
    main()
