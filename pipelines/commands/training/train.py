"""`armada train`. Its options are those declared in RunRequest; a `--config` file names them by the same words."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipelines.commands.options import AsJson
from pipelines.files import json_text
from pipelines.run.request import Option, layered, make_request, train_options


def _print_options(asked: bool) -> None:
    if asked:
        from pipelines.commands.training.option_table import option_table

        typer.echo(option_table(), nl=False)
        raise typer.Exit


Config = Annotated[
    Optional[Path],
    typer.Option("--config", metavar="RUN.yaml", help="Options by name, as in `lr: 1e-4`; those given here win."),
]
Rows = Annotated[
    Optional[str],
    typer.Argument(
        metavar="ROWS",
        show_default=False,
        help="Rows of your own: a .jsonl, .csv or .parquet file; a folder with train.* and test.*, or one that "
        "`datasets` saved; or hf:DATASET. With --task, rows of that card.",
    ),
]
Options = Annotated[
    bool,
    typer.Option("--options", is_eager=True, callback=_print_options, help="Print all options as a table in Markdown."),
]
NOT = "not_"  # begins the parameter of --no-NAME
PANELS = {"": "Run", "settings": "Training", "aligner": "Aligner"}


def train(values: Mapping[str, Any], config: Path | None, as_json: bool) -> None:
    """Train a student on a task and a cache's features; write a plain Hugging Face checkpoint and run.json."""
    from pipelines.run.training import run_training

    where = str(config) if config else ""
    request = make_request(layered(_read(config) if config else {}, values, where), where)
    result = run_training(request)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: only the first one prints
        return
    if as_json:
        typer.echo(json_text({"out": str(request.out), **asdict(result)}))
        return
    if result.reused:
        typer.echo(f"this run is in {request.out} already")
    if not result.metrics:
        typer.echo("NO TEST RESULT: the test split has no row with a label", err=True)
    for name, value in result.metrics.items():
        typer.echo(f"test {name:12} {value:.4f}")
    typer.echo(f"student: {request.out / 'student'}")


def _read(path: Path) -> dict[str, Any]:
    from distill import read_yaml_value
    from teacher_cache import ArmadaError

    found = read_yaml_value(path)
    if not isinstance(found, dict):
        raise ArmadaError(f"{path}: expected options by name, for example `lr: 1e-4`, found {type(found).__name__}")
    return {str(name): value for name, value in found.items()}


def command() -> Callable[..., None]:
    """`train` as Typer reads it: one parameter per declared option, all of them optional, so that `values` holds only
    what was given."""
    parameters = [keyword("rows", Rows, None)]
    parameters += parameters_of([option for name, option in train_options().items() if name != "rows"])
    parameters += [keyword("config", Config, None), keyword("options", Options, False)]
    parameters.append(keyword("as_json", AsJson, False))

    def train_command(config: Path | None, options: bool, as_json: bool, **values: Any) -> None:
        train(given_of(values), config, as_json)

    train_command.__doc__ = train.__doc__
    train_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    train_command.__annotations__ = {one.name: one.annotation for one in parameters}
    return train_command


def parameters_of(options: Sequence[Option]) -> list[inspect.Parameter]:
    """The parameters of declared options: those that help lists, and behind them the other names of the same."""
    return [*map(_parameter, options), *(hidden for option in options for hidden in _hidden(option))]


def given_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, by name, of the values of such parameters."""
    off = {name.removeprefix(NOT): False for name, value in values.items() if name.startswith(NOT) and value}
    given = {name: value for name, value in values.items() if not name.startswith(NOT) and value is not None}
    return {**given, **off}


def _parameter(option: Option) -> inspect.Parameter:
    info = typer.Option(
        option.flag,
        help=_help(option),
        metavar=option.declared.metavar,
        show_default=False,
        rich_help_panel=PANELS[option.part],
    )
    return keyword(option.name, Annotated[Optional[_type(option)], info], None)


def _hidden(option: Option) -> list[inspect.Parameter]:
    """Flags that help need not list: another name of the option, and --no-NAME, which takes back what a file says."""
    also, found = option.declared.also, []
    if also:
        info = typer.Option(f"--{also.replace('_', '-')}", hidden=True)
        found.append(keyword(also, Annotated[Optional[_type(option)], info], None))
    if isinstance(option.default, bool):
        info = typer.Option(f"--no-{option.flag[2:]}", hidden=True)
        found.append(keyword(f"{NOT}{option.name}", Annotated[bool, info], False))
    return found


def _type(option: Option) -> Any:
    # Lists are separated by commas. As a Path, an empty text would be the current folder.
    return str if any(word in str(option.type) for word in ("tuple", "Path")) else option.type


def _help(option: Option) -> str:
    choices = option.declared.choices
    words = [option.declared.help]
    if len(choices) > 1:
        words.append(f"One of {', '.join(choices)}.")
    if option.default is MISSING:
        words.append("Required, unless there are ROWS." if option.name == "task" else "Required.")
    elif option.default is True:
        words.append(f"This is the default; --no-{option.flag[2:]} turns it off.")
    elif option.default not in (None, (), False):
        words.append(f"Default: {option.default}.")
    if option.declared.also:
        words.append(f"Also --{option.declared.also.replace('_', '-')}.")
    return " ".join(words)


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter that is given by its name."""
    """A parameter that is given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
