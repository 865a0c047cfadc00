"""What is wrong with a study file, in words: the key, what is expected there, and the nearest known name of a typo."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipelines.run.request import check_values, find_option, train_options
from teacher_cache import ArmadaError

# What no arm and no settings may say, and why.
_OF_THE_STUDY = {
    "task": "the study names one task",
    **dict.fromkeys(("data_files", "rows", "text_column", "label_column", "type"), "the study names its rows once"),
    "out": "armada study --out names the folder",
    "cache": "a study has one cache",
    "seed": "the study lists its seeds",
    "recipe": "the paper's recipe chooses the epoch on the test rows",
    "track": "the runs of a study have no trackers",
    "lora_export": "a study reads the students that it exports",
}
_OF_ARMS = dict.fromkeys(("manifold", "control"), "arms differ in it")
_OF_SETTINGS = {"select": "settings says it for all arms"}
_BESIDE_SETTINGS = dict.fromkeys(
    ("student", "layers", "teacher", "encoder", "samples", "combine"), "it has a key of its own in the study"
)


def check_options(values: Mapping[str, Any], key: str) -> None:
    """Raise ValueError for an option of `armada train` that is unknown or not allowed at a key of a study ("arm", or
    the name of settings), or for a value that it can't have."""
    refused = {**_OF_THE_STUDY, **(_OF_SETTINGS if key == "arm" else {**_BESIDE_SETTINGS, **_OF_ARMS})}
    place = "" if key == "arm" else f"{key}."
    for name, value in values.items():
        if name in refused:
            raise ValueError(f"{place}{name}: expected no {name} here: {refused[name]}")
        try:
            option = find_option(name)
        except ArmadaError:
            near = _near(name, sorted(set(train_options()) - set(refused)))
            raise ValueError(f"{place}{name}: expected an option of armada train, found {name!r}{near}") from None
        if option.name in refused:
            raise ValueError(f"{place}{name}: expected no {name} here: {refused[option.name]}")
        try:
            check_values({name: value})
        except ArmadaError as error:
            flag = f"--{name.replace('_', '-')}: "
            message = str(error).removeprefix(flag)
            raise ValueError(f"{place}{message if message.startswith(name) else f'{name}: {message}'}") from None
        if name == "select" and value == "test":
            raise ValueError(
                f"{place}select: expected last or validation, found test: epochs chosen on the test rows would flatter "
                "every arm, and the verdict with them"
            )


def in_words(error: ValidationError, kind: type[BaseModel]) -> Iterator[str]:
    """Yield one line per fault of a file that is read as `kind`: its key, and what was expected there."""
    for fault in error.errors():
        place, message = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            name = str(fault["loc"][-1])
            message += _near(name, sorted(_keys_at(kind, fault["loc"][:-1])))
        if fault["type"] != "value_error" and not isinstance(fault["input"], dict | list):
            message += f", found {fault['input']!r}"
        names_its_key = re.match(r"[\w.-]+: ", message)
        yield message if names_its_key and not place else f"{place or 'study'}{'.' if names_its_key else ': '}{message}"


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"


def _keys_at(kind: type[BaseModel], place: tuple[int | str, ...]) -> set[str]:
    """Return the keys that the part of a file at a place may have."""
    for key in place:
        field = kind.model_fields.get(str(key))
        if field is None:
            continue
        types = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        kind = next((one for one in types if issubclass(one, BaseModel)), kind)
    return set(kind.model_fields)
