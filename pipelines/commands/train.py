"""`armada train`. Its options are those declared in RunRequest; a `--config` file names them by the same words."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipelines.commands.options import AsJson
from pipelines.files import json_text
from pipelines.run.request import Option, make_request, train_options

Config = Annotated[
    Optional[Path],
    typer.Option("--config", metavar="RUN.yaml", help="Options by name, as in `lr: 1e-4`; those given here win."),
]
PANELS = {"": "Run", "settings": "Training", "aligner": "Aligner"}


def train(values: Mapping[str, Any], config: Path | None, as_json: bool) -> None:
    """Train a student on a task and a cache's features; write a plain Hugging Face checkpoint and run.json."""
    from pipelines.run.training import run_training

    given = {name: value for name, value in values.items() if value is not None}
    request = make_request({**(_read(config) if config else {}), **given}, str(config) if config else "")
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
    import yaml

    from teacher_cache import ArmadaError

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArmadaError(f"{path}: expected a YAML file of options: {error}") from None
    if not isinstance(found, dict):
        raise ArmadaError(f"{path}: expected options by name, for example `lr: 1e-4`, found {type(found).__name__}")
    return {str(name): value for name, value in found.items()}


def command() -> Callable[..., None]:
    """`train` as Typer reads it: one parameter per declared option, all of them optional, so that `values` holds only
    what was given."""
    parameters = [parameter_of(option) for option in train_options().values()]
    parameters += [keyword("config", Config, None), keyword("as_json", AsJson, False)]

    def train_command(config: Path | None, as_json: bool, **values: Any) -> None:
        train(values, config, as_json)

    train_command.__doc__ = train.__doc__
    train_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    train_command.__annotations__ = {one.name: one.annotation for one in parameters}
    return train_command


def parameter_of(option: Option) -> inspect.Parameter:
    """The parameter of a declared option."""
    flag = f"{option.flag}/--no-{option.flag[2:]}" if option.default is True else option.flag
    info = typer.Option(
        flag,
        help=_help(option),
        metavar=option.declared.metavar,
        show_default=False,
        rich_help_panel=PANELS[option.part],
    )
    # Lists are separated by commas. As a Path, an empty text would be the current folder.
    type_ = str if any(word in str(option.type) for word in ("tuple", "Path")) else option.type
    return keyword(option.name, Annotated[Optional[type_], info], None)


def _help(option: Option) -> str:
    choices = option.declared.choices
    words = [option.declared.help]
    if len(choices) > 1:
        words.append(f"One of {', '.join(choices)}.")
    if option.default is MISSING:
        words.append("Required.")
    elif option.default not in (None, (), False):
        words.append(f"Default: {option.default}.")
    return " ".join(words)


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter that is given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
