"""The catalogue has every row of the cache once, in one order in every query."""

import dataclasses
import io
import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from pipelines.gallery import catalogue_build
from pipelines.gallery.catalogue import PAGE, Query, open_catalogue
from pipelines.gallery.neighbours import neighbours
from pipelines.gallery.static_export import export_gallery
from teacher_cache import (
    ArmadaError,
    Cache,
    CacheError,
    build,
    choose,
    compact,
    open_features,
    open_picture,
    open_teacher,
)
from teacher_cache.keys import sha256
from tests import fakes
from tests.pipelines.galleries import FAILING, ODD, PLAIN, PROMPTS, SCRIPT, fill


@pytest.fixture
def filled(cache):
    fill(cache)
    return cache


def found(catalogue, show="all", text="", page=1):
    return catalogue.find(Query(catalogue.teachers[0], show, text, page))


def prompts(catalogue, **query):
    first = found(catalogue, **query)
    pages = [found(catalogue, page=page, **query) for page in range(1, first.pages + 1)]
    assert [len(page.rows) for page in pages[:-1]] == [PAGE] * (len(pages) - 1)
    assert sum(len(page.rows) for page in pages) == first.total
    return [row.prompt for page in pages for row in page.rows]


def test_pages_hold_every_row_once_in_the_order_of_prompts(filled):
    catalogue = open_catalogue(filled)
    assert prompts(catalogue) == sorted(PROMPTS, key=catalogue_build.fold)
    assert found(catalogue).pages == 3
    assert found(catalogue, page=99).rows == found(catalogue, page=3).rows
    assert [row.prompt for row in catalogue.walk(catalogue.teachers[0])] == prompts(catalogue)


def test_page_of_gives_the_page_that_shows_a_row(filled):
    catalogue = open_catalogue(filled)
    for page in (1, 2, 3):
        assert {catalogue.teachers[0].page_of(row) for row in found(catalogue, page=page).rows} == {page}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("number 17", ["a quiet picture of thing number 17"]),
        ("17 NUMBER", ["a quiet picture of thing number 17"]),
        ("strasse FRÜHLING", ["Straße im Frühling"]),
        ("ﾈｺ", ["猫の絵 ネコ"]),  # half-width
        ("<script>", [SCRIPT, f"[undecodable] {SCRIPT}"]),
        ("100 % sure", ["{{ 7 * 7 }} %s 100 % sure"]),
        ("%", ["{{ 7 * 7 }} %s 100 % sure"]),
        ("number' OR 1=1 --", []),
        ("_uiet", []),
    ],
)
def test_a_search_finds_the_prompts_that_hold_every_word(filled, text, expected):
    assert sorted(prompts(open_catalogue(filled), text=text)) == sorted(expected)


def test_states_and_reasons_filter_the_rows(filled):
    catalogue = open_catalogue(filled)
    (teacher,) = catalogue.teachers
    assert (teacher.rows, teacher.drawn, teacher.failures) == (100, 96, 4)
    assert teacher.failed == {"refused": 2, "undecodable": 1, "blank": 1}
    assert sorted(prompts(catalogue, show="drawn")) == sorted(PLAIN + ODD)
    assert sorted(prompts(catalogue, show="failed")) == sorted(FAILING)
    assert sorted(prompts(catalogue, show="failed:refused")) == ["[refused] a crowd", "[refused] a riot"]
    assert prompts(catalogue, show="failed:refused", text="riot") == ["[refused] a riot"]
    (encoder,) = teacher.encoders
    assert encoder.features == 96
    assert len(prompts(catalogue, show=f"with:{encoder.name}")) == 96
    assert prompts(catalogue, show=f"without:{encoder.name}") == []
    for wrong in ("some", "with:", "with:other", ""):
        with pytest.raises(ArmadaError, match="expected all, drawn"):
            found(catalogue, wrong)


def test_two_teachers_and_two_samples_stay_apart(cache):
    fill(cache, PLAIN[:5], samples=2)
    fill(cache, PLAIN[:3], style="other")
    catalogue = open_catalogue(cache)
    assert sorted(teacher.rows for teacher in catalogue.teachers) == [3, 10]
    for teacher in catalogue.teachers:
        rows = catalogue.find(Query(teacher)).rows
        assert len(rows) == teacher.rows
        assert [row.sample for row in rows] == ([0, 1] * 5 if teacher.rows == 10 else [0] * 3)
        assert {row.teacher for row in rows} == {teacher.number}


def test_each_row_has_its_own_picture(filled):
    catalogue = open_catalogue(filled)
    for row in catalogue.walk(catalogue.teachers[0]):
        if row.reason is None:
            data, kind = catalogue.picture(row)
            assert kind == "png"
            assert sha256(data) == row.image_sha256
        else:
            with pytest.raises(ArmadaError, match=row.reason):
                catalogue.picture(row)


def test_a_catalogue_is_built_once_and_again_when_the_cache_has_changed(filled, monkeypatch):
    made = []
    write = catalogue_build._write
    monkeypatch.setattr(catalogue_build, "_write", lambda *words: (made.append(1), write(*words)))
    first = open_catalogue(filled)
    assert open_catalogue(filled).digest == first.digest
    assert len(made) == 1
    fill(filled, ["one more"])
    second = open_catalogue(filled)
    assert len(made) == 2
    assert (first.teachers[0].rows, second.teachers[0].rows) == (100, 101)
    assert len(prompts(first)) == 100  # an open catalogue stays complete
    assert len(list(catalogue_build.catalogue_folder(filled).iterdir())) == 1


def test_compaction_changes_no_row(filled):
    before = [dataclasses.replace(row, path=None, offset=None) for row in walk(open_catalogue(filled))]
    compact(filled)
    catalogue = open_catalogue(filled)
    assert [dataclasses.replace(row, path=None, offset=None) for row in walk(catalogue)] == before
    assert all(catalogue.picture(row) for row in walk(catalogue) if row.reason is None)


def walk(catalogue):
    return list(catalogue.walk(catalogue.teachers[0]))


@pytest.mark.parametrize("damage", [b"", b"no database", None])
def test_a_damaged_catalogue_is_built_again(filled, damage):
    expected = prompts(open_catalogue(filled))
    (path,) = catalogue_build.catalogue_folder(filled).iterdir()
    if damage is None:
        with sqlite3.connect(path) as database:
            database.execute("DELETE FROM facts")
    else:
        path.write_bytes(damage)
    assert prompts(open_catalogue(filled)) == expected


def test_a_killed_build_leaves_no_incomplete_catalogue(filled, monkeypatch):
    def killed(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue_build, "_count", killed)
    with pytest.raises(KeyboardInterrupt):
        open_catalogue(filled)
    monkeypatch.undo()
    assert not any(catalogue_build.catalogue_folder(filled).iterdir())
    assert len(prompts(open_catalogue(filled))) == 100


def test_catalogues_are_never_in_the_cache(filled):
    root = filled.store.local_path("cache.json").parent
    open_catalogue(filled)
    assert not list(root.rglob("*.sqlite")) or [path.name for path in root.rglob("*.sqlite")] == ["spool.sqlite"]
    assert not catalogue_build.catalogue_folder(filled).is_relative_to(root)


def test_damage_beyond_the_first_pages_is_reported_and_the_same_command_repairs_it(filled):
    catalogue = open_catalogue(filled)
    (path,) = catalogue_build.catalogue_folder(filled).iterdir()
    size = path.stat().st_size
    data = bytearray(path.read_bytes())
    data[8192 : size - 4096] = bytes(size - 12288)
    path.write_bytes(data)
    with pytest.raises(CacheError, match="run the same command again to list the cache anew"):
        [prompts(open_catalogue(filled)), catalogue]
    assert len(prompts(open_catalogue(filled))) == 100


def test_a_draft_that_a_killed_process_left_is_removed_later(filled):
    left = catalogue_build.catalogue_folder(filled) / ".left.draft"
    left.write_bytes(b"half")
    open_catalogue(filled)
    assert left.exists()  # someone may be writing it
    os.utime(left, (0, 0))
    fill(filled, ["one more"])
    open_catalogue(filled)
    assert not left.exists()


def test_looking_at_a_cache_writes_nothing_into_it(filled):
    root = filled.store.local_path("cache.json").parent
    before = sorted(root.rglob("*"))
    cache = Cache(filled.store.url)
    assert len(prompts(open_catalogue(cache))) == 100
    assert len(open_features(cache, *choose(cache, None, None))) == 96
    assert sorted(root.rglob("*")) == before


def test_a_key_that_is_no_digest_is_refused():
    for key in ("../../etc/passwd", "0" * 63, "<b>", "A" * 64):
        with pytest.raises(CacheError, match="64 hexadecimal digits"):
            catalogue_build._check(key)


def test_neighbours_in_blocks_equal_those_of_the_whole_matrix(filled, monkeypatch):
    monkeypatch.setattr("pipelines.gallery.neighbours._BLOCK", 7)
    features = open_features(filled, *choose(filled, None, None))
    keys = features.keys.to_pylist()
    matrix = features.take(np.arange(len(keys))).astype(np.float64)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    cosines = matrix @ matrix.T
    np.fill_diagonal(cosines, -2)
    for place, near in zip((0, 40, 95), neighbours(features, [keys[i] for i in (0, 40, 95)], 5), strict=True):
        order = np.argsort(-cosines[place])[:5]
        assert [one.image_key for one in near] == [keys[i] for i in order]
        assert np.allclose([one.cosine for one in near], cosines[place][order], atol=1e-5)
    assert neighbours(features, ["0" * 64, keys[1]], 500)[0] == []
    assert len(neighbours(features, ["0" * 64, keys[1]], 500)[1]) == 95


def test_a_picture_is_shown_in_a_format_that_browsers_have(tmp_path, cache):
    folder = tmp_path / "pictures"
    folder.mkdir()
    formats = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF", "tif": "TIFF"}
    for name, format in formats.items():
        Image.open(io.BytesIO(fakes.png(len(name)))).save(folder / f"{name}.{name}", format)
    build(cache, list(formats), open_teacher(f"folder:{folder}"), fakes.encoder())
    catalogue = open_catalogue(cache)
    shown = {row.prompt: catalogue.picture(row) for row in catalogue.walk(catalogue.teachers[0])}
    assert {prompt: kind for prompt, (_, kind) in shown.items()} == {**{name: name for name in formats}, "tif": "png"}
    for prompt, (data, _) in shown.items():
        stored = (folder / f"{prompt}.{prompt}").read_bytes()
        assert np.array_equal(np.asarray(open_picture(data)), np.asarray(open_picture(stored)))
        assert (data == stored) == (prompt != "tif")
    exported = export_gallery(cache, tmp_path / "gallery")
    assert (exported.pictures, exported.unreadable) == (6, 0)
    endings = {path.suffix for path in (tmp_path / "gallery").glob("pictures/*/*")}
    assert endings == {".png", ".jpeg", ".webp", ".gif", ".avif"}
