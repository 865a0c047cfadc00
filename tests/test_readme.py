"""The Python code in the README runs unchanged."""

import re
import sys
import types
from pathlib import Path

import pytest

from teacher_cache import Cache, build, open_teacher
from tests import fakes

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(word):
    (found,) = [block for block in BLOCKS if word in block]
    return found


@pytest.fixture
def own_teacher(monkeypatch):
    module = types.ModuleType("my_module.teachers")
    exec(compile(block("class Captions"), "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_module.teachers", module)
    return open_teacher("my_module.teachers:Captions?size=64")


def test_a_teacher_of_your_own_draws_into_a_cache(own_teacher, cache):
    report = build(cache, ["hello", "world"], own_teacher, fakes.encoder())
    assert (report.drawn, report.encoded, report.failed) == (2, 2, {})
    assert build(cache, ["hello", "world"], own_teacher, fakes.encoder()).calls == 0


def test_features_are_looked_up_by_text(tmp_path, monkeypatch):
    build(Cache(str(tmp_path / "cache"), create=True), ["my dog chased a cat"], fakes.teacher(), fakes.encoder())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block("rows_of"), "README.md", "exec"), names)
    assert names["vectors"].shape == (1, 8)
