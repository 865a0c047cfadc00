"""YAML files of a user: read as data of bounded size, with their faults by file and key.

A file may come from anyone: it has no tag that makes an object and no key twice, a few bytes of aliases do not stand
for gigabytes, and reading it runs nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from teacher_cache import ArmadaError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000  # with each alias replaced by what it stands for
_SHOWN = 200  # most characters of a value in a message


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with a limit to what aliases stand for, and without repeated keys."""

    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        if root is not None and _size(root, {}) > MAX_VALUES:
            raise yaml.MarkedYAMLError(problem=f"expected at most {MAX_VALUES:,} values, found aliases of more")
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "expected a word as key, found a list or a mapping"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if key.value in seen:
                problem = f"expected each key once, found {str(key.value)[:_SHOWN]!r} again"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raise ArmadaError, which names the file and the line, if there is no such file, or if it is larger than MAX_BYTES,
    is not UTF-8 or is not the YAML of a mapping.
    """
    return parse_yaml(_text(path), path)


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping in the text of a YAML file. Raise ArmadaError, which names `path` and the line, if it is not
    the YAML of a mapping."""
    found = _value(text, path)
    if not isinstance(found, dict):
        raise ArmadaError(f"{path}: expected keys and values, as in `name: mine`, found {_kind(found)}")
    return found


def read_yaml_value(path: Path) -> Any:
    """Return the value in a YAML file, of any kind. Raise ArmadaError as `read_yaml`."""
    return _value(_text(path), path)


def _value(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ArmadaError(f"{path}: {_where(error)}expected YAML: {_problem(error)}") from None
    except RecursionError:
        raise ArmadaError(f"{path}: expected YAML, found values that are nested too deep") from None
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:  # no such date, number, ...
        raise ArmadaError(f"{path}: expected YAML, found a value that is not of its kind: {error}") from None


def faults_in_words(path: Path, error: ValidationError, model: type[BaseModel]) -> str:
    """Return the faults of a file, one line each: its path, the key, what was expected and what was found.

    An unknown key has the nearest key of `model` beside it.
    """
    return "\n".join(f"{path}: {_fault(fault, model)}" for fault in error.errors())


def _fault(fault: ErrorDetails, model: type[BaseModel]) -> str:
    place = ".".join(_written(fault["loc"]))
    if fault["type"] == "value_error":
        words = fault["msg"].removeprefix("Value error, ")
        return words if not place or words.startswith(str(fault["loc"][0])) else f"{place}: {words}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: unknown key{did_you_mean(str(fault['loc'][-1]), _keys(model, fault['loc']))}"
    if fault["type"] == "missing":
        return f"{place}: expected a value, found none"
    found = "" if fault["type"] == "source" else f", found {_shown(fault['input'])}"
    quotes = "; put it in quotes" if fault["type"] == "string_type" and isinstance(fault["input"], bool | int) else ""
    message = re.sub("^(Input|List|Tuple|String|Dictionary|Value) should (be |have )?", "expected ", fault["msg"])
    return f"{place or 'the file'}: {message}{found}{quotes}"


def _written(place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that lead to a place in the file. The second part of a source's or a split's is its kind."""
    return [str(part) for number, part in enumerate(place) if number != 1 or place[0] not in ("source", "split")]


def _keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known at the place of an unknown one: those of `model`, or of the model of a part."""
    from pydantic import BaseModel

    kinds: list[Any] = [model]
    for name in place[:-1]:
        inner = [kind.model_fields[str(name)].annotation for kind in kinds if str(name) in kind.model_fields]
        kinds = [part for one in inner for part in _models(one)] or kinds
    return [key for kind in kinds if issubclass(kind, BaseModel) for key in kind.model_fields]


def _models(annotation: Any) -> list[Any]:
    """Return the models in an annotation, such as those of a union."""
    from pydantic import BaseModel

    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _text(path: Path) -> str:
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        else:
            raise ArmadaError(f"{path}: expected a YAML file, found {'a folder' if path.is_dir() else 'no plain file'}")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ArmadaError(f"{path}: expected a YAML file: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise ArmadaError(f"{path}: expected at most {MAX_BYTES:,} bytes of YAML, found more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ArmadaError(f"{path}: line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}") from None


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many values a node stands for; a node that contains itself is an error."""
    known = sizes.get(id(node))
    if known == 0:
        raise yaml.MarkedYAMLError(
            problem="expected a value, found one that contains itself", problem_mark=node.start_mark
        )
    if known is None:
        sizes[id(node)] = 0
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for pair in inner for part in pair] if isinstance(node, yaml.MappingNode) else inner
        known = sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return known


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: " if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    text = str(problem or error).split("\n")[0]
    return f"{text}; inside braces, put a text with ? in quotes" if text.endswith("got '?'") else text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _kind(value: Any) -> str:
    return "nothing" if value is None else "a mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"
