"""All options of `armada train` as a table in Markdown: docs/train-options.md is what this prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any

from pipelines.run.request import Option, train_options

HEADINGS = {"": "Run", "settings": "Training", "aligner": "Aligner"}


def option_table() -> str:
    """The text of docs/train-options.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Options of `armada train`"
    yield ""
    yield "Printed by `armada train --options`. `--config run.yaml` and the arms of a study take them by name, with"
    yield "`_` instead of `-`; a flag wins over the file, and a recipe overrides nothing that was said. A name in"
    yield "brackets is the same option as transformers' Trainer or peft calls it. `--no-NAME` takes back a switch."
    for part, heading in HEADINGS.items():
        yield from ("", f"## {heading}", "", "| option | default | |", "|---|---|---|")
        for option in train_options().values():
            if option.part == part:
                yield f"| {_names(option)} | {_default(option.default)} | {_words(option)} |"


def _names(option: Option) -> str:
    also = option.declared.also
    if option.name == "rows":  # the only one without a flag
        return "`ROWS`"
    return f"`{option.flag}`" + (f" (`--{also.replace('_', '-')}`)" if also else "")


def _default(default: Any) -> str:
    if default is MISSING:
        return "required"
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default in (None, ()) else f"`{default}`"


def _words(option: Option) -> str:
    choices = option.declared.choices
    one_of = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if len(choices) > 1 else ""
    return option.declared.help.replace("|", "\\|") + one_of
