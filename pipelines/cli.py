"""The command line. Every import that costs time stands inside the command that needs it."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from teacher_cache import Cache, Encoder, Plan, Teacher

app = typer.Typer(
    help="Pay a text-to-image teacher once, train text-only students from its cache, know whether the pictures helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cache_app = typer.Typer(help="Stage one: pictures and features, drawn once, kept in shards.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

Prompts = Annotated[str, typer.Argument(help="A task card's name, or a .jsonl, .csv, .parquet or .txt file.")]
Url = Annotated[str, typer.Argument(help="The cache: a folder or any fsspec URL.")]
CacheUrl = Annotated[str, typer.Option("--cache", help="The cache: a folder or any fsspec URL.")]
TeacherSpec = Annotated[str, typer.Option("--teacher", help="KIND[:MODEL][?OPTION=VALUE&...], for example pictogram.")]
EncoderSpec = Annotated[str, typer.Option("--encoder", help="For example efficientnet-lite0.")]
Column = Annotated[str, typer.Option("--text-column", help="The column that holds the prompt.")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Pictures a prompt.")]
Limit = Annotated[Optional[int], typer.Option("--limit", min=1, help="Only the first N unique prompts.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")]


@app.command()
def demo(
    out: Annotated[Optional[Path], typer.Option("--out", help="Where to write; default armada-demo.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="256 training rows and one seed.")] = False,
) -> None:
    """The whole idea on real data: a cache, the same build again, four kinds of student, an honest table."""
    from pipelines.demo import FULL, QUICK, run_demo

    scale = QUICK if quick else FULL
    run_demo(out or Path("armada-demo-quick" if quick else "armada-demo"), scale)


@app.command()
def tasks(
    name: Annotated[Optional[str], typer.Argument(help="Show this card.")] = None, as_json: AsJson = False
) -> None:
    """List the task cards, or show one."""
    from distill.cards import card_names, load_card

    if name:
        card = load_card(name).model_dump()
        typer.echo(json.dumps(card, ensure_ascii=False) if as_json else _yaml(card))
        return
    cards = [load_card(name) for name in card_names()]
    if as_json:
        typer.echo(json.dumps({"tasks": [card.model_dump() for card in cards]}, ensure_ascii=False))
        return
    for card in cards:
        typer.echo(f"{card.name:24} {card.type:16} {card.title}")


@app.command()
def train(
    task: Annotated[str, typer.Option("--task", help="A task card's name.")],
    student: Annotated[str, typer.Option("--student", help="minilm, a folder or a hub id.")],
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
    control: Annotated[Optional[str], typer.Option("--control", help="undistilled or shuffled.")] = None,
    data_files: Annotated[
        Optional[Path], typer.Option("--data-files", help="Training rows instead of the card's, in its columns.")
    ] = None,
    missing: Annotated[
        Optional[str], typer.Option("--missing", help="drop: train on the rows that have a feature.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs")] = 3,
    batch_size: Annotated[int, typer.Option("--batch-size")] = 32,
    lr: Annotated[float, typer.Option("--lr")] = 5e-5,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    max_steps: Annotated[Optional[int], typer.Option("--max-steps", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Train a student on a task and a cache's features; write a plain Hugging Face checkpoint and run.json."""
    from distill.trainer import TrainSettings
    from pipelines.training import RunRequest, run_training
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
    )
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
        settings=settings,
    )
    result = run_training(request)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **asdict(result)}))
        return
    if result.reused:
        typer.echo(f"this run is in {out} already")
    for name, value in result.metrics.items():
        typer.echo(f"test {name:12} {value:.4f}")
    typer.echo(f"student: {out / 'student'}")


@cache_app.command()
def plan(
    prompts: Prompts,
    teacher: TeacherSpec,
    encoder: EncoderSpec,
    cache: CacheUrl,
    text_column: Column = "text",
    samples: Samples = 1,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """What a build would do: rows, pictures and features at hand, calls to make. Nothing is called or written."""
    from teacher_cache import Cache, make_plan, open_encoder, open_teacher, source_of

    drawer, reader = open_teacher(teacher), open_encoder(encoder)
    made: Plan = make_plan(
        Cache(cache),
        source_of(drawer.spec),
        source_of(reader.spec),
        _read_prompts(prompts, text_column),
        samples=samples,
        limit=limit,
    )
    calls = len(made.wanted)
    facts = {
        "rows": made.rows,
        "unique_prompts": made.unique_prompts,
        "pictures_at_hand": made.pictures_at_hand,
        "features_at_hand": made.features_at_hand,
        "failed": dict(made.failed),
        "calls": calls,
        "cost_usd": None if drawer.price_usd is None else calls * drawer.price_usd,
    }
    _show(facts, as_json)


@cache_app.command()
def build(
    prompts: Prompts,
    teacher: TeacherSpec,
    encoder: EncoderSpec,
    cache: CacheUrl,
    text_column: Column = "text",
    samples: Samples = 1,
    limit: Limit = None,
    max_calls: Annotated[
        Optional[int], typer.Option("--max-calls", min=0, help="Cap on all calls made here for this teacher.")
    ] = None,
    budget_usd: Annotated[
        Optional[float], typer.Option("--budget-usd", min=0, help="Cap on all money spent here on this teacher.")
    ] = None,
    shard_rows: Annotated[int, typer.Option("--shard-rows", min=1, help="Most rows a shard.")] = 8192,
    seal_rows: Annotated[int, typer.Option("--seal-rows", min=1, help="Seal after so many pictures.")] = 2048,
    seal_seconds: Annotated[float, typer.Option("--seal-seconds", min=0, help="Seal after so many seconds.")] = 600,
    as_json: AsJson = False,
) -> None:
    """Ask the teacher for every picture that is missing, once, and encode what has no feature."""
    from teacher_cache import BuildOptions, Cache, open_encoder, open_teacher

    options = BuildOptions(
        samples=samples,
        limit=limit,
        max_calls=max_calls,
        budget_usd=budget_usd,
        shard_rows=shard_rows,
        seal_rows=seal_rows,
        seal_seconds=seal_seconds,
    )
    drawer, reader = open_teacher(teacher), open_encoder(encoder)
    texts = _read_prompts(prompts, text_column)
    _build(Cache(cache, create=True), texts, drawer, reader, options, as_json)


def _build(cache: Cache, texts: list[str], drawer: Teacher, reader: Encoder, options: Any, as_json: bool) -> None:
    from teacher_cache import build as run_build

    report = run_build(cache, texts, drawer, reader, options, stop=_stop_on_signal())
    _show(asdict(report), as_json)
    if report.stopped == "interrupted":
        typer.echo("stopped as asked; what was drawn is sealed. The same command goes on from here.", err=True)
        raise typer.Exit(130)
    if report.stopped == "budget":
        typer.echo("the budget is reached; raise it and run the same command to go on.", err=True)
        raise typer.Exit(4)
    if report.failed or report.features_refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report.failed.items()))
        typer.echo(f"failed rows: {reasons or 'none'}; features refused: {report.features_refused}", err=True)
        raise typer.Exit(3)


@cache_app.command()
def status(url: Url, as_json: AsJson = False) -> None:
    """What a cache holds: pictures, features, failures by reason, calls, cost, size."""
    from teacher_cache import Cache
    from teacher_cache import status as read_status

    teachers = read_status(Cache(url))
    if as_json:
        typer.echo(json.dumps({"cache": url, "teachers": [asdict(teacher) for teacher in teachers]}))
        return
    for teacher in teachers:
        facts = asdict(replace(teacher, encoders=[]))
        del facts["spec"], facts["encoders"]
        _show(facts, False)
        for encoder in teacher.encoders:
            typer.echo()
            facts = {f"  {name}": value for name, value in asdict(encoder).items() if name != "spec"}
            _show(facts, False)
    if not teachers:
        typer.echo("no teacher has drawn into this cache yet")


def _read_prompts(prompts: str, column: str) -> list[str]:
    from distill.cards import card_names, load_card
    from distill.splits import load_splits
    from teacher_cache import ArmadaError, check_prompts, read_prompts

    if prompts in card_names():
        return check_prompts(load_splits(load_card(prompts)).train.prompts, f"task {prompts}", "prompt")
    path = Path(prompts)
    if not path.suffix:
        raise ArmadaError(f"{prompts}: neither a file nor a task; known tasks: {', '.join(card_names())}")
    return read_prompts(path, column)


def _stop_on_signal() -> Any:
    """A function that says whether SIGINT or SIGTERM came; the second one ends the process at once."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)
        print("\nstopping: finishing what is in flight; once more to stop at once", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(asked)


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in sorted(value.items())) or "none"
        elif isinstance(value, float):
            value = f"{value:.3f}"
        typer.echo(f"{name.replace('_', ' '):28} {value if value not in (None, '') else '-'}")


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()


def main() -> None:
    """The console script: an error that a user can mend is one message and its exit code, no traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
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
