"""A decoded matrix damaged on this machine: never a wrong row; the next opening heals it."""

import contextlib
import shutil

import numpy as np
import pytest

from teacher_cache import CacheError, build
from teacher_cache.reading import reader
from teacher_cache.reading.matrix_store import folders
from tests import fakes
from tests.teacher_cache.reading.test_reader import PROMPTS, SMALL, expected, only, opened


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


FILES = ("features", "feature_sums", "facts", "fact_sums", "prefixes", "order")


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_anywhere_gives_a_wrong_row_and_the_next_opening_heals(cache, name):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    right = expected(PROMPTS)
    opened(cache)
    whole = only(cache, f"matrices/*/{name}.npy").read_bytes()
    for place in range(0, len(whole), 11):
        path = only(cache, f"matrices/*/{name}.npy")
        flip(path, place)
        assert place < 128 or not reader.is_whole(path.parent)  # the header has some spaces
        with contextlib.suppress(CacheError):
            features = opened(cache)
            rows = features.rows_of(PROMPTS)
            there = rows >= 0
            assert np.array_equal(features.take(rows[there]), right[there])
        for folder in cache.machine_folder.glob("matrices/*.broken"):
            shutil.rmtree(folder)
        if path.exists():  # this use didn't come upon it
            path.write_bytes(whole)
        opened(cache)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["header", "truncate", "delete", "empty"])
def test_a_file_cut_short_or_gone_is_decoded_anew(cache, name, how):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    opened(cache)
    path = only(cache, f"matrices/*/{name}.npy")
    data = path.read_bytes()
    if how == "delete":
        path.unlink()
    else:
        path.write_bytes({"header": b"x" + data[1:], "truncate": data[:-8], "empty": b""}[how])
    features = opened(cache)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))
    assert [reader.is_whole(folder) for folder in folders(cache.machine_folder / "matrices")] == [True]


def test_a_matrix_found_damaged_is_set_aside_and_the_same_command_heals(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    opened(cache)
    flip(only(cache, "matrices/*/features.npy"), -1)
    with pytest.raises(CacheError, match="It was set aside; run the same command again"):
        opened(cache).take(np.arange(17))
    features = opened(cache)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_a_row_number_that_does_not_exist_is_an_error_and_no_neighbour(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    for rows in ([-1], [17], [0, 99]):
        with pytest.raises(IndexError):
            opened(cache).take(np.array(rows))


@pytest.mark.parametrize("name", ["places", "feature_sums", "facts"])
def test_no_flipped_bit_gives_a_wrong_row_of_a_window(cache, name):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    right = expected(PROMPTS)
    opened(cache, max_local_bytes=100)
    path = only(cache, f"matrices/*/{name}.npy")
    whole = path.read_bytes()
    refused = 0
    for place in range(128, len(whole), 13):
        flip(path, place)
        try:
            features = opened(cache, max_local_bytes=100)
            rows = features.rows_of(PROMPTS)
            there = rows >= 0
            assert np.array_equal(features.take(rows[there]), right[there])
        except CacheError:
            refused += 1
        for folder in cache.machine_folder.glob("matrices/*.broken"):
            shutil.rmtree(folder)
        if path.exists():
            path.write_bytes(whole)
        opened(cache, max_local_bytes=100)
    assert refused
