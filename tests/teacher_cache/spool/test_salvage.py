"""Of a spool that is truncated or damaged all that SQLite still reads is kept, and the damaged file too."""

import shutil

import pytest

from teacher_cache.spool.budget import Budget
from teacher_cache.spool.database import PAGE, SpoolDatabase, fault
from teacher_cache.spool.rows import Claims, Wanted
from teacher_cache.spool.salvage import finish_salvage, salvage
from teacher_cache.spool.spool import Spool
from teacher_cache.teachers import Failure, Picture, Request

PICTURES = {f"k{i:03}": bytes([i]) * 5000 for i in range(60)}


@pytest.fixture(params=[PAGE, 4096])
def file(tmp_path, request):
    """A spool with 60 pictures, two failures, and a call without an answer; also one as earlier versions made it."""
    SpoolDatabase(tmp_path / "spool.sqlite", request.param).close()
    with Spool(tmp_path) as spool:
        keys = [*PICTURES, "f1", "f2", "lost"]
        wanted = [Wanted(Request(key, f"prompt {key}", 0, 1), "p" * 64) for key in keys]
        assert set(spool.claim_all(Claims("t", wanted, Budget(price_usd=0.04), 0))) == {"granted"}
        spool.record([Picture(key, data, "png", 0.04, 1.0) for key, data in PICTURES.items()])
        spool.record([Failure(key, "refused", "no", 0.0) for key in ("f1", "f2")])
        spool.add_rate("teacher", 10, 5.0)
    return tmp_path / "spool.sqlite"


def kept(file):
    with Spool(file.parent) as spool:
        rows = spool.waiting("t", "drawn", 1000)
        assert all(PICTURES[row.image_key] == next(spool.pictures([row.image_key])) for row in rows)
        return {row.image_key for row in rows}, spool.spent("t"), len(spool.waiting("t", "failed", 9))


def test_a_sound_spool_has_no_fault(file, tmp_path):
    assert fault(file) == ""
    assert fault(tmp_path / "none.sqlite") == ""


@pytest.mark.parametrize("part", [0.9, 0.5, 0.2])
def test_of_a_truncated_spool_the_pictures_in_what_is_left_are_kept(file, part):
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(int(size * part))
    assert fault(file)
    saved = salvage(file)
    assert fault(file) == ""
    assert saved.aside.stat().st_size == int(size * part)
    keys, spent, _ = kept(file)
    assert saved.pictures == len(keys)
    first = 20 * int.from_bytes(saved.aside.read_bytes()[16:18], "big")  # bytes of the pages of the other tables
    assert len(keys) >= 60 * (size * part - first) / (size - first) - 12
    assert spent[0] >= len(keys)


@pytest.mark.parametrize("place", [0.15, 0.5, 0.95])
def test_a_damaged_page_costs_only_the_rows_on_it(file, place):
    data = bytearray(file.read_bytes())
    page = int(len(data) * place) // 4096 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    file.write_bytes(data)
    if fault(file):  # there is none if no row uses the page
        salvage(file)
    keys, spent, failures = kept(file)
    assert len(keys) >= 55
    assert spent == (63, pytest.approx(61 * 0.04))
    assert failures == 2


@pytest.mark.parametrize("content", [b"", b"no database", b"no database at all" * 4096])
def test_what_is_no_spool_at_all_is_set_aside_and_a_new_one_made(file, content):
    file.write_bytes(content)
    if not content:
        assert fault(file) == ""  # SQLite takes an empty file as a new one
        assert kept(file) == (set(), (0, 0.0), 0)
        return
    saved = salvage(file)
    assert saved.aside.read_bytes() == content
    assert kept(file) == (set(), (0, 0.0), 0)


def test_a_salvage_that_was_killed_between_its_renames_is_finished(file, tmp_path):
    shutil.copy(file, tmp_path / "salvaged.sqlite")
    file.unlink()
    finish_salvage(file)
    assert kept(file)[0] == set(PICTURES)


def test_a_picture_whose_bytes_changed_is_not_kept(file):
    data = file.read_bytes()
    place = data.index(bytes([7]) * 2000) + 100
    file.write_bytes(data[:place] + b"changed" + data[place + 7 :])
    salvage(file)
    assert kept(file)[0] == set(PICTURES) - {"k007"}


@pytest.mark.parametrize("start", [0, 100])
def test_a_damaged_first_page_costs_no_picture(file, start):
    data = bytearray(file.read_bytes())
    data[start:4096] = bytes(4096 - start)
    file.write_bytes(data)
    assert fault(file)
    assert salvage(file).pictures == 60
    assert kept(file) == (set(PICTURES), (63, pytest.approx(61 * 0.04)), 2)
