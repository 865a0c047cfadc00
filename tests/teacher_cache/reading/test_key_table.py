"""The key table: a key finds its own row or none."""

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from teacher_cache import CacheError
from teacher_cache.format.digests import canonical_rows, from_hex, leading, to_hex
from teacher_cache.reading import key_table as module
from teacher_cache.reading.key_table import KeyTable, key_table, row_sums


def facts_of(pairs):
    """Return (N, 64) uint8 of N pairs of 32 bytes."""
    return np.frombuffer(b"".join(key + picture for key, picture in pairs), np.uint8).reshape(-1, 64).copy()


def digest(text):
    return hashlib.sha256(str(text).encode()).digest()


# Few distinct bytes, so that keys and their prefixes collide.
KEYS = st.builds(lambda head, tail: bytes([head]) * 8 + bytes([tail]) * 24, st.integers(0, 3), st.integers(0, 9))


@given(st.lists(KEYS, unique=True), st.lists(KEYS))
def test_every_key_finds_its_own_row_even_if_its_first_eight_bytes_collide(keys, wanted):
    table = key_table(facts_of([(key, digest(key)) for key in keys]))
    queries = np.frombuffer(b"".join(wanted), np.uint8).reshape(-1, 32)
    expected = [keys.index(key) if key in keys else -1 for key in wanted]
    assert table.find(queries).tolist() == expected


@given(st.lists(st.tuples(KEYS, KEYS)))
def test_the_picture_with_the_smallest_digest_is_canonical_in_any_order(pairs):
    facts = facts_of(pairs)
    canonical = [pairs[row] for row in canonical_rows(facts)]
    assert canonical == sorted({key: min(p for k, p in pairs if k == key) for key, _ in pairs}.items())


def test_a_damaged_order_finds_no_row():
    facts = facts_of([(digest(i), digest(-i)) for i in range(9)])
    table = key_table(facts)
    order = table.order.copy()
    order[[0, 1]] = order[[1, 0]]
    broken = KeyTable(facts, table.sums, table.prefixes, order)
    rows = broken.find(facts[:, :32])
    assert sorted(rows[[order[0], order[1]]]) == [-1, -1]
    assert not broken.is_whole()
    with pytest.raises(CacheError, match="keys differ from their checksums"):
        KeyTable(facts, table.sums, table.prefixes, order + 100).find(facts[:, :32])


def test_damaged_keys_and_picture_digests_are_an_error_that_names_the_table():
    facts = facts_of([(digest(i), digest(-i)) for i in range(9)])
    table = key_table(facts)
    assert table.is_whole()
    for place in (3, 40):
        damaged = facts.copy()
        damaged[4, place + 8] ^= 1
        broken = KeyTable(damaged, table.sums, table.prefixes, table.order, "here")
        with pytest.raises(CacheError, match=r'here: keys differ .* run "armada cache verify --repair"$'):
            broken.find(facts[:, :32])
        assert not broken.is_whole()


def test_a_table_is_whole_only_if_every_row_of_every_array_is(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    facts = facts_of([(digest(i // 2)[:8] + digest(i)[:24], digest(-i)) for i in range(20)])  # pairs share a prefix
    table = key_table(facts)
    assert table.is_whole()
    for row in range(20):
        damaged = facts.copy()
        damaged[row, 63] ^= 1
        assert not replace(table, facts=damaged).is_whole(), row
        prefixes = table.prefixes.copy()
        prefixes[row] ^= np.uint64(1)
        assert not replace(table, prefixes=prefixes).is_whole(), row
    for name in ("facts", "sums", "prefixes", "order"):
        assert not replace(table, **{name: getattr(table, name)[:-1]}).is_whole(), name
        assert not replace(table, **{name: np.concatenate([getattr(table, name)] * 2)}).is_whole(), name
    for first, second in ((0, 2), (10, 12), (17, 19)):  # each prefix still belongs to its key, and they don't ascend
        places = np.arange(20)
        places[[first, second]] = second, first
        swapped = replace(table, prefixes=table.prefixes[places], order=table.order[places])
        assert not swapped.is_whole(), first


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 12])
def test_a_checksum_changes_with_every_flipped_byte(width):
    rows = np.random.default_rng(0).normal(size=(4, width)).astype(np.float16)
    sums = row_sums(rows)
    data = rows.view(np.uint8)
    for byte in range(data.shape[1]):
        data[2, byte] ^= 0x10
        assert (row_sums(rows) != sums).tolist() == [False, False, True, False]
        data[2, byte] ^= 0x10


def test_slices_and_chunks_survive_conversion_from_and_to_hexadecimal():
    texts = [digest(i).hex() for i in range(7)]
    column = pa.chunked_array([texts[:3], [], texts[3:]])
    assert to_hex(from_hex(column, "x")) == texts
    assert to_hex(from_hex(column.slice(2, 4), "x")) == texts[2:6]
    assert to_hex(from_hex(pa.array(texts).slice(5), "x")) == texts[5:]
    assert from_hex([], "x").shape == (0, 32)


@pytest.mark.parametrize("bad", [["ab"], ["g" * 64], [None], ["a" * 63, "a" * 65]])
def test_what_is_no_digest_is_refused(bad):
    with pytest.raises(CacheError, match=r"shard\.parquet: expected digests of 64 hexadecimal digits"):
        from_hex(pa.array(bad, pa.string()), "shard.parquet")


def test_leading_bytes_sort_as_the_keys_do():
    keys = sorted(digest(i) for i in range(50))
    numbers = leading(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32))
    assert (np.diff(numbers.astype(object)) > 0).all()
