"""`armada pretrain`. Its options are those of `train` that decide the training of a student without labels."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from pipelines.commands.options import AsJson
from pipelines.commands.output import show
from pipelines.commands.train import keyword, parameter_of
from pipelines.run.pretrain_request import make_pretrain_request, pretrain_options

Texts = Annotated[
    str,
    typer.Argument(help="A .jsonl, .csv, .parquet or .txt file of texts with pictures; or a task card's name."),
]


def pretrain(texts: str, values: dict[str, Any], as_json: bool) -> None:
    """Pre-train a student on texts and a cache's features of them, without labels; write DIR/student and run.json."""
    from pipelines.run.pretraining import run_pretraining

    given = {name: value for name, value in values.items() if value is not None}
    request = make_pretrain_request(texts, given)
    result = run_pretraining(request)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: only the first one prints
        return
    show({"out": str(request.run.out), **asdict(result), "student": str(request.run.out / "student")}, as_json)


def command() -> Callable[..., None]:
    """`pretrain` as Typer reads it: the texts, and one parameter per option, so that `values` holds what was given."""
    parameters = [inspect.Parameter("texts", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Texts)]
    parameters += [parameter_of(option) for option in pretrain_options().values()]
    parameters += [keyword("as_json", AsJson, False)]

    def pretrain_command(texts: str, as_json: bool, **values: Any) -> None:
        pretrain(texts, values, as_json)

    pretrain_command.__doc__ = pretrain.__doc__
    pretrain_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    pretrain_command.__annotations__ = {one.name: one.annotation for one in parameters}
    return pretrain_command
