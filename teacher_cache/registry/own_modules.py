"""A module of the user with a teacher or an encoder: `./teacher.py:Class`, or `module:Class` in the working folder.

It is opened only because a user has typed its name; what a cache's files say of a teacher is never passed here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from teacher_cache.errors import SpecError, did_you_mean


def resolve(noun: str, module: str, name: str, text: str, known: Sequence[str] = ()) -> Any:
    """Return the object `name` of a module, which is a .py file or the name of an importable module.

    A name that Python does not find otherwise is looked up in the working folder, too; while it is imported, so are the
    modules that it imports. Raise SpecError, which names `text` and perhaps the nearest of the `known` kinds, if there
    is no such object or its module fails.
    """
    is_file = module.endswith(".py")
    found = _from_file(noun, Path(module), text) if is_file else _by_name(noun, module, name, text, known)
    if not hasattr(found, name):
        own = [one for one, value in vars(found).items() if getattr(value, "__module__", None) == found.__name__]
        names = f"; found {', '.join(sorted(own))}" if own else ""
        raise SpecError(
            f"{text}: no {noun} at {module}:{name}: expected {name!r} in it{names}{did_you_mean(name, own)}"
        )
    return getattr(found, name)


def _from_file(noun: str, path: Path, text: str) -> ModuleType:
    if not path.is_file():
        near = did_you_mean(path.name, [one.name for one in path.parent.glob("*.py")])
        raise SpecError(f"{text}: no {noun} at {path}: no such file{near}")
    place = path.resolve()
    name = f"{place.stem}_{hashlib.sha256(str(place).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for dataclasses and pickles
    try:
        with _imports_from(place.parent):
            spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        del sys.modules[name]
        raise SpecError(f"{text}: {_failure(path, error)}") from error
    return module


def _by_name(noun: str, module: str, name: str, text: str, known: Sequence[str]) -> ModuleType:
    try:
        with _imports_from(Path.cwd()):
            return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            there = "on Python's path or in this folder"
            near = did_you_mean(module, known)
            raise SpecError(f"{text}: no {noun} at {module}:{name}: no module {error.name!r} {there}{near}") from None
        raise SpecError(f"{text}: {_failure(Path(module), error)}") from error
    except Exception as error:  # whatever the user's code raises
        raise SpecError(f"{text}: {_failure(Path(module), error)}") from error


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Let imports find the modules in a folder, after all others."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(str(folder))]


def _failure(where: Path, error: Exception) -> str:
    """Return where the user's code has failed: the last of its lines that Python was at."""
    place, frame = str(where), error.__traceback__
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{_short(error.filename)}, line {error.lineno}"
    else:
        while frame is not None:
            code = frame.tb_frame.f_code
            if "importlib" not in code.co_filename and code.co_filename != __file__:
                place = f"{_short(code.co_filename)}, line {frame.tb_lineno}"
            frame = frame.tb_next
    return f"{place}: {type(error).__name__}: {error}"


def _short(path: str) -> str:
    inside = os.path.relpath(path) if os.path.isabs(path) else path
    return path if inside.startswith("..") else inside
