"""A teacher in a file of one's own is opened when its user names it, and its faults are said by file and line."""

import sys
from pathlib import Path

import pytest

from teacher_cache import SpecError, open_encoder, open_teacher

TEACHER = """
from dataclasses import dataclass
import {helper}

@dataclass
class Size:
    side: int

class Mine:
    licence, price_usd = "CC0", None

    def __init__(self, spec):
        self.size = Size(spec.options({{"size": {helper}.SIZE}})["size"])
        self.spec = {{"kind": "mine", "size": self.size.side}}

    def draw(self, requests):
        yield from ()
"""
ENCODER = """
class Enc:
    spec, dimension, batch_size = {"kind": "enc"}, 3, 1

    def __init__(self, spec): pass

    def encode(self, pictures, prompts): return []
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder with modules whose names no other test uses, and a path that Python searches without it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part not in ("", str(tmp_path))])
    number = len(list(tmp_path.parent.iterdir()))
    names = {"teacher": f"own_teacher_{number}", "helper": f"own_helper_{number}", "bad": f"own_bad_{number}"}
    Path(f"{names['helper']}.py").write_text("SIZE = 7\n")
    Path(f"{names['teacher']}.py").write_text(TEACHER.format(helper=names["helper"]) + ENCODER)
    Path("sub").mkdir()
    Path("sub/inner.py").write_text(
        (tmp_path / f"{names['teacher']}.py")
        .read_text()
        .replace(f"import {names['helper']}", "class h: SIZE = 8")
        .replace(f"{names['helper']}.", "h.")
    )
    return names


@pytest.mark.parametrize(
    "way", ["./{teacher}.py:Mine", "{teacher}.py:Mine", "{teacher}:Mine", "{here}/{teacher}.py:Mine"]
)
def test_a_teacher_is_found_in_a_file_or_a_module_of_the_working_folder(folder, way):
    before = list(sys.path)
    text = way.format(here=Path.cwd(), **folder)
    assert open_teacher(text).spec == {"kind": "mine", "size": 7}
    assert open_teacher(f"{text}?size=9").spec["size"] == 9
    assert open_encoder(text.replace(":Mine", ":Enc")).dimension == 3
    assert sys.path == before


def test_a_module_in_a_folder_is_found_by_its_path_or_with_a_dot(folder):
    assert open_teacher("sub/inner.py:Mine").spec["size"] == 8
    assert open_teacher("sub.inner:Mine").spec["size"] == 8


def test_a_module_of_the_working_folder_never_comes_before_one_that_is_installed(monkeypatch):
    monkeypatch.delitem(sys.modules, "sched", raising=False)  # of Python itself; nothing here needs it
    Path("sched.py").write_text("1 / 0\n")
    with pytest.raises(SpecError, match="no teacher at sched:Mine: expected 'Mine' in it"):
        open_teacher("sched:Mine")


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        ("x = 1\ny = 1 / 0\n", "{bad}.py:Mine", r"own_bad_\d+.py, line 2: ZeroDivisionError: division by zero"),
        ("x = 1\ny = 1 / 0\n", "{bad}:Mine", r"own_bad_\d+.py, line 2: ZeroDivisionError: division by zero"),
        ("\ndef x(:\n", "./{bad}.py:Mine", r"own_bad_\d+.py, line 2: SyntaxError"),
        ("import not_there_at_all\n", "{bad}:Mine", "line 1: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("class Mine: pass\n", "./{bad}.py:Mien", r"expected 'Mien' in it; found Mine; did you mean Mine\?"),
        ("class Mine: pass\n", "./{bad}.py:Mine", "can't be made: TypeError: Mine"),
        ("class Mine:\n  def __init__(self, spec): pass\n", "{bad}:Mine", "the teacher has no spec"),
        ("", "./gone_{bad}.py:Mine", "no such file"),
        ("", "gone_{bad}:Mine", "no module 'gone_own_bad_.*' on Python's path or in this folder"),
        ("", "pictogran:Mine", r"did you mean pictogram\?"),
        ("", "opanai:gpt-image-2", r"unknown teacher 'opanai'; known: .* did you mean openai\?"),
        ("", "./{teacher}.py:Mine?siez=3", r"unknown option 'siez'; .* knows: size; did you mean size\?"),
    ],
)
def test_the_fault_of_an_own_teacher_is_one_line_that_names_the_place(folder, content, spec, message):
    Path(f"{folder['bad']}.py").write_text(content)
    with pytest.raises(SpecError, match=message) as caught:
        open_teacher(spec.format(**folder))
    assert "\n" not in str(caught.value)
