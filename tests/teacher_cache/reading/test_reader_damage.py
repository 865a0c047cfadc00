"""A damaged decoded matrix never returns a wrong row, and the next opening repairs it."""

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
def test_no_flipped_bit_leads_to_a_wrong_row_and_the_next_opening_repairs_it(cache, name):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    right = expected(PROMPTS)
    opened(cache)
    undamaged = only(cache, f"matrices/*/{name}.npy").read_bytes()
    for place in range(0, len(undamaged), 11):
        path = only(cache, f"matrices/*/{name}.npy")
        flip(path, place)
        assert place < 128 or not reader.is_whole(path.parent)  # the header contains spaces that may change
        with contextlib.suppress(CacheError):
            features = opened(cache)
            rows = features.rows_of(PROMPTS)
            found = rows >= 0
            assert np.array_equal(features.take(rows[found]), right[found])
        for folder in cache.derived_folder.glob("matrices/*.broken"):
            shutil.rmtree(folder)
        if path.exists():  # nothing read the damaged byte
            path.write_bytes(undamaged)
        opened(cache)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["header", "truncate", "delete", "empty"])
def test_a_truncated_or_missing_file_is_decoded_again(cache, name, how):
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
    assert [reader.is_whole(folder) for folder in folders(cache.derived_folder / "matrices")] == [True]


def test_a_damaged_matrix_is_set_aside_and_repeating_the_command_repairs_it(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    opened(cache)
    flip(only(cache, "matrices/*/features.npy"), -1)
    with pytest.raises(CacheError, match="It was set aside; run the same command again"):
        opened(cache).take(np.arange(17))
    features = opened(cache)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_a_row_number_out_of_range_is_an_error(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    for rows in ([-1], [17], [0, 99]):
        with pytest.raises(IndexError):
            opened(cache).take(np.array(rows))


@pytest.mark.parametrize("name", ["places", "feature_sums", "facts"])
def test_no_flipped_bit_leads_to_a_wrong_row_of_a_window(cache, name):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    right = expected(PROMPTS)
    opened(cache, max_local_bytes=100)
    path = only(cache, f"matrices/*/{name}.npy")
    undamaged = path.read_bytes()
    refused = 0
    for place in range(128, len(undamaged), 13):
        flip(path, place)
        try:
            features = opened(cache, max_local_bytes=100)
            rows = features.rows_of(PROMPTS)
            found = rows >= 0
            assert np.array_equal(features.take(rows[found]), right[found])
        except CacheError:
            refused += 1
        for folder in cache.derived_folder.glob("matrices/*.broken"):
            shutil.rmtree(folder)
        if path.exists():
            path.write_bytes(undamaged)
        opened(cache, max_local_bytes=100)
    assert refused
