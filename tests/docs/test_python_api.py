"""docs/python-api.md prints every public name once, and each has a docstring in the form that the site shows."""

import re
from importlib import import_module

import pytest

from tests.docs.commands import ROOT

PAGE = (ROOT / "docs" / "python-api.md").read_text("utf-8")


@pytest.mark.parametrize("face", ["teacher_cache", "distill"])
def test_every_public_name_is_on_the_page_once(face):
    printed = re.findall(rf"^::: {face}\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(printed) == sorted(import_module(face).__all__)
