"""The gallery of a teacher with a recipe shows the text of a row and, on its page, what was drawn in its place."""

import html

from pipelines.gallery.catalogue import Query, open_catalogue
from teacher_cache import BuildOptions, Cache, build, open_teacher, with_recipe
from tests import fakes
from tests.pipelines.galleries import request, served

TEXT = "freedom"
TEMPLATE = "<script>alert(1)</script> of {text}"


def test_a_rows_page_shows_what_was_drawn_in_place_of_its_text(tmp_path):
    cache = Cache(str(tmp_path / "cache"), create=True)
    teacher = open_teacher(with_recipe("tests.fakes:FakeTeacher", template=TEMPLATE))
    build(cache, [TEXT, "[refused] hope"], teacher, fakes.encoder(), BuildOptions())
    catalogue = open_catalogue(cache)
    (row,) = catalogue.find(Query(catalogue.teachers[0], text=TEXT)).rows
    assert (row.prompt, row.drawn_prompt) == (TEXT, "<script>alert(1)</script> of freedom")
    with served(cache, tmp_path / "home") as address:
        page = request(address, f"/row/{row.image_key}")[2].decode()
    assert "<script>alert" not in page
    shown = html.unescape(page)
    assert f'<h1 class="prompt" dir="auto">{TEXT}</h1>' in shown
    assert f'<dt>drawn as</dt><dd dir="auto">{row.drawn_prompt}</dd>' in shown
