"""Digests as bytes: found again, compared, and turned into text and columns without a change."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest

from teacher_cache import CacheError
from teacher_cache.format import digests as module
from teacher_cache.format.digests import (
    from_column,
    from_hex,
    index_digests,
    same_at,
    smaller_rows,
    to_column,
    to_hex,
)


def digests(count, prefix=b""):
    rows = [(prefix + hashlib.sha256(str(i).encode()).digest())[:32] for i in range(count)]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


@pytest.mark.parametrize("prefix", [b"", b"8 bytes."], ids=["all prefixes differ", "one prefix"])
def test_an_index_finds_each_digest_and_no_other_one(prefix):
    known = digests(200, prefix)
    index = index_digests(known[:100])
    assert index.find(known).tolist() == [*range(100), *[-1] * 100]
    assert index.find(known[:0]).tolist() == []
    assert index_digests(known[:0]).find(known).tolist() == [-1] * 200
    assert index.count(to_hex(known)) == 100


def test_an_index_counts_the_digests_of_all_blocks_and_refuses_what_is_none(monkeypatch):
    known = digests(50)
    index = index_digests(known[:30])
    monkeypatch.setattr(module, "_BLOCK", 8)
    assert index.count(iter(to_hex(known))) == 30
    assert index.count(iter([])) == 0
    with pytest.raises(CacheError, match=r"^digests: expected digests of 64 hexadecimal digits"):
        index.count(["ab"])


def test_digests_become_columns_and_text_and_come_back():
    known = digests(10)
    column = pa.chunked_array([to_column(known[:4]), to_column(known[4:4]), to_column(known[4:])])
    for back in (from_column(column), from_column(column.combine_chunks()), from_hex(to_hex(known), "x")):
        assert (back == known).all()
    assert (from_column(to_column(known).slice(3, 5)) == known[3:8]).all()
    assert from_column(column.slice(0, 0)).shape == (0, 32)


def test_the_smaller_of_two_digests_is_that_of_their_text():
    chance = random.Random(0)
    some = [bytes([0] * place + [chance.choice((0, 1, 127, 128, 255))] + [9] * (31 - place)) for place in range(32)]
    others = [bytes([0] * place + [chance.choice((0, 1, 127, 128, 255))] + [7] * (31 - place)) for place in range(32)]
    arrays = [np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32) for rows in (some, others)]
    assert smaller_rows(*arrays).tolist() == [one < other for one, other in zip(some, others, strict=True)]
    assert not smaller_rows(arrays[0], arrays[0]).any()


def test_a_place_that_is_not_there_is_never_the_same():
    known = digests(3)
    assert same_at(known, np.array([0, -1, 2, 1]), known[[0, 1, 1, 1]]).tolist() == [True, False, False, True]
    assert same_at(known[:0], np.array([-1]), known[:1]).tolist() == [False]
