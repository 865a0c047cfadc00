"""An exported gallery is complete and self-contained, is written once, and is completed after a kill."""

import json
import re
from html import escape
from pathlib import Path

import pytest
from filelock import FileLock

from pipelines.gallery import static_export, urls
from pipelines.gallery.catalogue import open_catalogue
from pipelines.gallery.catalogue_build import catalogue_folder
from pipelines.gallery.static_export import export_gallery
from teacher_cache import ArmadaError, choose, sha256
from tests.pipelines.cli import armada
from tests.pipelines.galleries import FAILING, PLAIN, PROMPTS, SCRIPT, fill


@pytest.fixture
def out(cache, tmp_path):
    fill(cache)
    return tmp_path / "out"


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def index_of(folder):
    found = []
    for path in sorted(folder.glob("search/*.js")):
        number, chunk = re.fullmatch(r"armadaChunk\((\d+), (.*)\);\n", path.read_text()).groups()
        assert path.name.endswith(f"-{number}.js")
        found += json.loads(chunk)
    return found


def test_every_link_leads_to_a_file_of_the_folder(cache, out):
    exported = export_gallery(cache, out)
    assert (exported.rows, exported.pictures, exported.unreadable) == (100, 96, 0)
    pages = sorted(out.rglob("*.html"))
    assert len(pages) == 100 + 3 + 1 + 1  # rows, pages of all, of failures, coverage
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"]*)"', page.read_text("utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.is_relative_to(out.resolve()), (page, link)
            assert link == "#content" or target.is_file(), (page, link)


def test_the_search_index_holds_every_row_in_chunks(cache, out, monkeypatch):
    monkeypatch.setattr(static_export, "CHUNK", 30)
    monkeypatch.setattr(urls, "CHUNK", 30)
    export_gallery(cache, out)
    assert len(list(out.glob("search/*.js"))) == 4
    assert 'data-chunks="4"' in (out / "index.html").read_text()
    entries = index_of(out)
    assert sorted(entry[1] for entry in entries) == sorted(PROMPTS)
    assert all((entry[3] is None) == (entry[4] is not None) for entry in entries)
    assert all((out / entry[3]).is_file() for entry in entries if entry[3])


def test_no_file_holds_a_script_that_came_from_a_prompt(cache, out):
    export_gallery(cache, out)
    for page in out.rglob("*.html"):
        text = page.read_text("utf-8")
        assert "<script>" not in text
        assert len(re.findall("<script", text)) == 1
        assert "Content-Security-Policy" in text
    assert SCRIPT in [entry[1] for entry in index_of(out)]


def test_the_same_export_again_writes_nothing_and_a_grown_cache_only_what_is_new(cache, out):
    export_gallery(cache, out)
    before = files(out)
    again = export_gallery(cache, out)
    assert again.rows == 100
    assert files(out) == before
    fill(cache, [*PROMPTS, "zzz one more"])
    assert export_gallery(cache, out).rows == 101
    after = files(out)
    assert {name for name in before if name.startswith("pictures/") and after.get(name) != before[name]} == set()
    assert len([name for name in after if name.startswith("pictures/")]) == 97


def test_rows_that_the_cache_has_lost_are_removed_and_nothing_else(cache, out):
    fill(cache, ["a row that goes"], style="other")
    export_gallery(cache, out)
    assert (out / "pictures-1-1.html").exists()
    mine = out / "rows" / "mine"
    mine.write_text("kept")
    (other,) = [teacher for teacher in cache.teachers() if teacher.spec["style"] == "other"]
    for folder in ("images", "features"):
        for path in (Path(str(cache.store)) / folder / other.name).rglob("*"):
            if path.is_file():
                path.unlink()
    assert export_gallery(cache, out).rows == 100
    assert "a row that goes" not in {entry[1] for entry in index_of(out)}
    assert mine.exists()
    names = files(out)
    assert len([name for name in names if name.startswith("rows/") and name.endswith(".html")]) == 100
    assert len([name for name in names if name.startswith("pictures/")]) == 96


def test_a_killed_export_resumes_and_equals_an_uninterrupted_one(cache, out, tmp_path, monkeypatch):
    rows = static_export._Export._rows
    calls = []

    def killed(self, *words):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(static_export._Export, "_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        export_gallery(cache, out)
    monkeypatch.setattr(static_export._Export, "_rows", rows)
    drawn = {name: when for name, when in files(out).items() if name.startswith("pictures/")}
    assert len(drawn) == 96
    export_gallery(cache, out)
    export_gallery(cache, tmp_path / "unbroken")
    assert {name: (out / name).read_bytes() for name in files(out)} == {
        name: (tmp_path / "unbroken" / name).read_bytes() for name in files(tmp_path / "unbroken")
    }
    assert {name: files(out)[name] for name in drawn} == drawn


def test_a_folder_with_other_files_is_left_unchanged(cache, out):
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ArmadaError, match=r"expected a new or empty folder.*name another folder"):
        export_gallery(cache, out)
    assert files(out).keys() == {"thesis.tex"}


def test_only_a_folder_marked_as_an_export_is_written_to_and_only_our_file_names_are_removed(cache, out):
    out.mkdir()
    (out / "gallery.json").write_text('{"title": "my holiday"}')
    (out / "about.html").write_text("mine")
    with pytest.raises(ArmadaError, match="others' files"):
        export_gallery(cache, out)
    (out / "about.html").unlink()
    (out / "gallery.json").unlink()
    export_gallery(cache, out)
    for name in ("about.html", "pictures/holiday.jpg", "rows/notes.html"):
        (out / name).write_text("mine")
    fill(cache, ["one more"])
    export_gallery(cache, out)
    assert all((out / name).exists() for name in ("about.html", "pictures/holiday.jpg", "rows/notes.html"))


def test_a_folder_that_cannot_be_written_to_is_an_error_and_left_unchanged(cache, out, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArmadaError, match="expected a folder"):
            export_gallery(cache, place)
    for place in (Path(str(cache.store)), Path(str(cache.store)) / "commits" / "gallery"):
        with pytest.raises(ArmadaError, match="outside the cache"):
            export_gallery(cache, place)
        assert not (place / "gallery.json").exists()


def test_a_second_export_into_the_same_folder_is_refused_while_the_first_runs(cache, out):
    place = sha256(str(out.resolve()).encode())[:32]
    lock = FileLock(catalogue_folder(cache) / f"{place}.lock")
    with lock, pytest.raises(ArmadaError, match="another export into it"):
        export_gallery(cache, out)
    assert export_gallery(cache, out).rows == 100


def test_a_damaged_picture_is_reported_and_checked_again_next_time(cache, out):
    teacher, _ = choose(cache, None, None)
    row = cache.images(teacher).to_pylist()[0]
    tar = Path(str(cache.store)) / row["path"]
    whole = tar.read_bytes()
    tar.write_bytes(whole[: row["offset"]] + b"x" + whole[row["offset"] + 1 :])
    run = armada("cache", "browse", cache.store, "--static", out)
    assert run.returncode == 2
    assert "1 pictures can't be read" in run.stderr
    key = row["image_key"]
    page = out / "rows" / key[:2] / f"{key}.html"
    assert "differs from its sha256" in page.read_text("utf-8")
    tar.write_bytes(whole)
    run = armada("cache", "browse", cache.store, "--static", out)
    assert (run.returncode, run.stdout) == (0, f"100 rows, 96 pictures: {out / 'index.html'}\n")
    assert "differs from its sha256" not in page.read_text("utf-8")


@pytest.mark.parametrize("counts", [(3, 2), (2, 3)])
def test_prompts_of_two_teachers_have_pages_of_their_own_and_the_first_one_is_of_the_larger(cache, tmp_path, counts):
    fill(cache, PLAIN[: counts[0]])
    fill(cache, PLAIN[: counts[1]], style="other")
    export_gallery(cache, tmp_path / "out")
    main = open_catalogue(cache).main
    pages = [tmp_path / "out" / name for name in ("index.html", f"pictures-{1 - main.number}-1.html")]
    texts = [page.read_text("utf-8") for page in pages]
    assert [len(re.findall('<li class="card"><a href', text.replace("\n", ""))) for text in texts] == [3, 2]
    marked = [re.search('aria-current="true">(.*?) <', text) for text in texts]
    assert [found and found[1] for found in marked] == [
        main.name,
        next(one.name for one in open_catalogue(cache).teachers if one.name != main.name),
    ]


def test_an_export_says_nothing_of_the_exporters_folders(cache, tmp_path):
    fill(cache, [*PLAIN[:3], *FAILING])
    row = cache.images(cache.teachers()[0]).to_pylist()[0]
    tar = Path(str(cache.store)) / row["path"]
    whole = tar.read_bytes()
    tar.write_bytes(whole[: row["offset"]] + b"x" + whole[row["offset"] + 1 :])  # its page shows an error
    out = tmp_path / "out"
    export_gallery(cache, out)
    page = out / "rows" / row["image_key"][:2] / f"{row['image_key']}.html"
    assert "differs from its sha256" in page.read_text("utf-8")
    place = Path(str(cache.store)).parent
    saying = [path.name for path in out.rglob("*") if path.is_file() and str(place).encode() in path.read_bytes()]
    assert saying == []
    assert f"<bdi>{Path(str(cache.store)).name}</bdi>" in (out / "index.html").read_text("utf-8")


def test_the_page_of_failures_says_so_and_its_cards_say_why(cache, tmp_path):
    fill(cache, [*PLAIN[:2], *FAILING])
    export_gallery(cache, tmp_path / "out")
    text = (tmp_path / "out" / "failures-0-1.html").read_text("utf-8")
    assert "<h1>Failures " in text
    messages = {row["message"] for row in cache.failures(cache.teachers()[0]).to_pylist()}
    assert messages
    for message in messages:
        assert escape(message[:40]) in text
    assert json.dumps(next(iter(messages)))[1:40] in (tmp_path / "out" / "search" / "0-0.js").read_text("utf-8")
