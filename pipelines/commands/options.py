"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

Prompts = Annotated[
    str,
    typer.Argument(
        help="A task card's name or file; or a .jsonl, .csv, .parquet or .txt file, or a folder with train.*, or as "
        "`datasets` saves it; with --task, a card's rows."
    ),
]
Url = Annotated[str, typer.Argument(help="The cache: a folder or any fsspec URL.")]
CacheUrl = Annotated[str, typer.Option("--cache", help="The cache: a folder or any fsspec URL.")]
TeacherSpec = Annotated[
    Optional[str],
    typer.Option(
        "--teacher",
        metavar="SPEC",
        help="KIND[:MODEL][?OPTION=VALUE&...], for example pictogram; your own is ./teacher.py:CLASS. Required.",
    ),
]
EncoderSpec = Annotated[
    Optional[str], typer.Option("--encoder", metavar="SPEC", help="For example efficientnet-lite0. Required.")
]
Column = Annotated[
    Optional[str],
    typer.Option(
        "--text-column",
        metavar="C[,C2]",
        help="The column of the prompts, or two for pairs; white space around a text is left out. Default: text.",
    ),
]
LabelColumn = Annotated[
    Optional[str],
    typer.Option(
        "--label-column",
        metavar="L[,L2...]",
        help="The column of the labels: build only what `armada train PROMPTS` trains on, not rows that it tests on.",
    ),
]
TaskType = Annotated[
    Optional[str],
    typer.Option(
        "--type",
        help="With --label-column: classification, regression, multi-label or similarity, if the guess is wrong.",
    ),
]
Task = Annotated[
    Optional[str],
    typer.Option("--task", help="PROMPTS has rows of this card: build the prompts that its training looks for."),
]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Pictures per prompt.")]
Limit = Annotated[Optional[int], typer.Option("--limit", min=1, help="Use only the first N unique prompts.")]
MaxCalls = Annotated[
    Optional[int], typer.Option("--max-calls", min=0, help="Most calls to this teacher, earlier builds included.")
]
BudgetUsd = Annotated[
    Optional[float], typer.Option("--budget-usd", min=0, help="Most money for this teacher, earlier builds included.")
]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait until batches have brought everything, instead of ending with code 5."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
