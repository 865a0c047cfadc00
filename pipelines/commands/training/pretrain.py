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
from pipelines.commands.training.train import given_of, keyword, parameters_of
from pipelines.pretraining.request import make_pretrain_request, pretrain_options

Texts = Annotated[
    str,
    typer.Argument(
        help="Texts with pictures: a .jsonl, .csv, .parquet or .txt file, a folder or hf:DATASET; or a task card."
    ),
]


def pretrain(texts: str, values: dict[str, Any], as_json: bool) -> None:
    """Pre-train a student on texts and a cache's features of them, without labels; write DIR/student and run.json."""
    from pipelines.pretraining.pretraining import run_pretraining

    request = make_pretrain_request(texts, values)
    result = run_pretraining(request)
    if os.environ.get("RANK", "0") != "0":  # one of several processes: only the first one prints
        return
    show({"out": str(request.run.out), **asdict(result), "student": str(request.run.out / "student")}, as_json)


def command() -> Callable[..., None]:
    """`pretrain` as Typer reads it: the texts, and one parameter per option, so that `values` holds what was given."""
    parameters = [inspect.Parameter("texts", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Texts)]
    parameters += parameters_of(list(pretrain_options().values()))
    parameters += [keyword("as_json", AsJson, False)]

    def pretrain_command(texts: str, as_json: bool, **values: Any) -> None:
        pretrain(texts, given_of(values), as_json)

    pretrain_command.__doc__ = pretrain.__doc__
    pretrain_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    pretrain_command.__annotations__ = {one.name: one.annotation for one in parameters}
    return pretrain_command
