"""The Python code in README.md and docs/ runs unchanged, and links between them lead to something."""

import re
import sys
import types

import pytest

from teacher_cache import Cache, build, open_teacher
from tests import fakes
from tests.documents import PAGES, python_block


@pytest.fixture
def own_teacher(monkeypatch):
    module = types.ModuleType("my_module.teachers")
    exec(compile(python_block("class Captions"), "teachers.md", "exec"), module.__dict__)
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
    exec(compile(python_block("rows_of"), "cache.md", "exec"), names)
    assert names["vectors"].shape == (1, 8)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_page_or_heading_leads_to_it(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        name, _, heading = link.partition("#")
        linked = page.parent / name if name else page
        assert linked.is_file(), link
        headings = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]


def test_every_page_is_reached_by_links_from_the_readme():
    reached, to_read = set(), [PAGES[0].resolve()]
    while to_read:
        page = to_read.pop()
        reached.add(page)
        links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")) if page.suffix == ".md" else []
        to_read += {(page.parent / link).resolve() for link in links} - reached
    assert [page.name for page in PAGES if page.resolve() not in reached] == []
