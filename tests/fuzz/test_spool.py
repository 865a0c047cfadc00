"""A damaged spool is salvaged as far as its bytes allow, and nothing of it ends a build but ArmadaError."""

import shutil
import struct

import pytest

from teacher_cache import Cache, build, status
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.database import fault
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.salvage import salvage
from teacher_cache.spool.spool import Spool
from teacher_cache.spool.spool_view import view_spool
from teacher_cache.storage.workspace import find_workspace
from teacher_cache.teachers import Failure, Picture, Request
from tests import fakes
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, damaged_start, other_json

PICTURES = {f"k{number:03}": bytes([number]) * 500 for number in range(12)}


@pytest.fixture
def file(tmp_path):
    """A spool with pictures, a failure, and a call without an answer."""
    folder = tmp_path / "sound"
    with Spool(folder) as spool:
        for key in [*PICTURES, "failed", "lost"]:
            spool.claim("t", Wanted(Request(key, f"prompt {key}", 0, 1), "p" * 64), Budget(price_usd=0.04), 0)
        spool.record([Picture(key, data, "png", 0.04, 1.0) for key, data in PICTURES.items()])
        spool.record([Failure("failed", "refused", "no", 0.0)])
        spool.add_rate("teacher", 10, 5.0)
    return folder / "spool.sqlite"


def odd_page(random_numbers, data):
    """Overwrite a page, or the header, cell pointers or cells of one."""
    found = bytearray(data)
    page = random_numbers.randrange(max(1, len(data) // 4096)) * 4096
    other = random_numbers.randrange(max(1, len(data) // 4096)) * 4096
    match random_numbers.randrange(4):
        case 0:
            found[page : page + 4096] = found[other : other + 4096]
        case 1:
            found[page : page + 8] = struct.pack(
                ">BHHHB",
                random_numbers.choice((2, 5, 10, 13, 0)),
                *(random_numbers.randrange(65536) for _ in range(3)),
                0,
            )
        case 2:
            found[page + 4000 : page + 4096] = damaged_bytes(random_numbers, bytes(found[page + 4000 : page + 4096]))[
                :96
            ].ljust(96, b"\0")
        case _:
            found[page + 8 : page + 40] = bytes(random_numbers.randrange(256) for _ in range(32))
    return bytes(found)


def odd_values(random_numbers, data):
    """Change letters in what the spool has stored: JSON, keys, numbers."""
    found = bytearray(data)
    for word in (b'"state"', b'"sha256"', b"drawn", b"failed", b"refused", b'"sample"', b"0.04", b"prompt k"):
        if random_numbers.random() < 0.4 and (places := [at for at in range(len(found)) if found.startswith(word, at)]):
            place = random_numbers.choice(places)
            found[place + random_numbers.randrange(len(word))] = random_numbers.choice(b'x{"[0\0\xff9')
    return bytes(found)


def test_a_damaged_spool_is_salvaged(file, tmp_path):
    folder = tmp_path / "damaged"

    def read(data):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = folder / "spool.sqlite"
        path.write_bytes(data)
        if fault(path):
            saved = salvage(path)
            assert saved.aside.read_bytes() == data
        assert fault(path) == ""
        with Spool(folder) as spool:
            for row in spool.waiting("t", "drawn", 100):
                (picture,) = spool.pictures([row.image_key])
                assert row.image_key not in PICTURES or isinstance(picture, bytes)
            spool.spent("t")
            spool.waiting("t", "failed", 100)

    fuzz(
        "spool",
        [file.read_bytes()],
        (odd_page, odd_page, odd_values, damaged_bytes, damaged_start),
        read,
        tmp_path,
        count=12,
    )


def test_a_damaged_spool_is_shown_as_far_as_it_can_be_read(tmp_path):
    """`armada cache status` and `browse --follow` read the spool of a build that may be running."""
    cache = Cache(str(tmp_path / "cache"), create=True)
    build(cache, ["[transient] one", "two"], fakes.teacher(), fakes.encoder())
    file = find_workspace(cache.store, frozenset).folder / "spool.sqlite"
    with Spool(file.parent) as spool:
        spool.claim("t", Wanted(Request("k", "prompt", 0, 1), "p" * 64), Budget(price_usd=0.04), 0)
        spool.record([Picture("k", b"x" * 500, "png", 0.04, 1.0)])
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)

    def read(data):
        file.write_bytes(data)
        view_spool(cache, newest=5)

    fuzz("spool view", [file.read_bytes()], (odd_page, odd_values, odd_values, damaged_bytes), read, tmp_path, count=40)


@pytest.mark.parametrize("name", ["spool.json", "local/spools/x.json"])
def test_a_record_of_a_spool_that_is_none_is_passed_over(tmp_path, name):
    cache = Cache(str(tmp_path / "cache"), create=True)
    build(cache, ["one"], fakes.teacher(), fakes.encoder())
    folder = find_workspace(cache.store, frozenset).folder
    path = folder / name if "/" not in name else next((tmp_path / "cache" / "local").rglob("*.json"))
    seed = path.read_bytes()

    def read(data):
        path.write_bytes(data)
        find_workspace(cache.store, frozenset)
        status(cache)

    fuzz(f"spool record {name}", [seed], (damaged_bytes, other_json, other_json), read, tmp_path, count=40)
