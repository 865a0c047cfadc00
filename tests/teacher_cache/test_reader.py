"""The join is by key: no order, no neighbour and no gap can put a feature beside the wrong row."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from teacher_cache import (
    BuildOptions,
    Cache,
    CacheError,
    Source,
    SpecError,
    build,
    choose,
    compact,
    encoder_source,
    export,
    merge,
    open_encoder,
    open_features,
    reader,
    teacher_source,
)
from teacher_cache.matrices import folders
from teacher_cache.store import Store
from tests import fakes

PROMPTS = [f"prompt {i}" for i in range(17)]


def expected(prompts):
    """Each prompt's feature, straight from teacher and encoder."""
    from teacher_cache import Request, image_key, prompt_key
    from teacher_cache.keys import seed_of

    teacher, encoder = fakes.teacher(), fakes.encoder()
    digest = teacher_source(teacher).digest
    keys = [image_key(digest, prompt_key(prompt)) for prompt in prompts]
    requests = [Request(key, prompt, 0, seed_of(key)) for key, prompt in zip(keys, prompts, strict=True)]
    pictures = [answer.data for answer in teacher.draw(requests)]
    return encoder.encode(pictures, prompts).astype(np.float16)


def test_every_prompt_gets_its_own_feature_in_any_order(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    features = open_features(cache, *choose(cache, None, None))
    for prompts in (PROMPTS, PROMPTS[::-1], PROMPTS[3:9] * 2):
        assert np.array_equal(features.matrix[features.rows_of(prompts)], expected(prompts))


def test_an_unknown_prompt_is_minus_one(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    features = open_features(cache, *choose(cache, None, None))
    assert features.rows_of(["never drawn", PROMPTS[0]])[0] == -1
    assert features.rows_of(PROMPTS, sample=1).tolist() == [-1] * 17


def test_a_grown_cache_is_decoded_anew_and_the_old_matrix_stays(cache):
    build(cache, PROMPTS[:5], fakes.teacher(), fakes.encoder())
    before = open_features(cache, *choose(cache, None, None))
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    after = open_features(cache, *choose(cache, None, None))
    assert (len(before.matrix), len(after.matrix)) == (5, 17)
    assert np.array_equal(after.matrix[after.rows_of(PROMPTS[:5])], before.matrix[before.rows_of(PROMPTS[:5])])


def test_the_second_opening_decodes_nothing(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    open_features(cache, *choose(cache, None, None))
    monkeypatch.setattr("teacher_cache.reader.decode", lambda *_, **__: pytest.fail("decoded twice"))
    assert open_features(cache, *choose(cache, None, None)).matrix.shape == (17, 8)


def test_several_teachers_must_be_told_apart(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    build(cache, PROMPTS[:2], fakes.teacher(style="bold"), fakes.encoder())
    with pytest.raises(SpecError, match=r"has several teachers .* name one by --teacher SPEC"):
        choose(cache, None, None)
    assert choose(cache, teacher_source(fakes.teacher()).digest, None)[0].spec["style"] == "plain"


def test_an_encoder_that_the_cache_lacks_is_an_error(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    other = encoder_source(open_encoder("tests.fakes:FakeEncoder?version=9"))
    with pytest.raises(SpecError, match=r"expected the encoder .* found: fake-encoder-.*; build it first"):
        choose(cache, None, other.digest)


# Opening


def opened(cache, **options):
    return open_features(cache, *choose(cache, None, None), **options)


def only(cache, pattern):
    (path,) = cache.machine_folder.glob(pattern)
    return path


def test_a_warm_opening_reads_no_shard(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    opened(cache)
    for path in Path(str(cache.store)).rglob("shards/*"):
        path.write_bytes(b"")
    again = Cache(cache.store.url)
    features = opened(again)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_a_tar_cache_gives_the_same_rows_as_parquet(cache, tmp_path):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    out = Cache(str(tmp_path / "tars"), create=True)
    export(cache, out, "webdataset", shard_rows=5)
    some, others = opened(cache), opened(out)
    assert len(some) == len(others) == 17
    rows = (some.rows_of(PROMPTS), others.rows_of(PROMPTS))
    assert np.array_equal(some.take(rows[0]), others.take(rows[1]))
    assert some.pictures_of(rows[0]) == others.pictures_of(rows[1])


def test_a_cache_that_grows_while_it_is_read_is_another_snapshot(cache):
    build(cache, PROMPTS[:9], fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    features = opened(cache)
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    compact(cache, vacuum=True)
    assert np.array_equal(features.take(features.rows_of(PROMPTS[:9])), expected(PROMPTS[:9]))
    assert (features.rows_of(PROMPTS[9:]) == -1).all()
    assert np.array_equal(opened(cache).take(opened(cache).rows_of(PROMPTS)), expected(PROMPTS))


def test_a_shard_removed_between_listing_and_reading_is_listed_anew(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    plain = reader.decode

    def compact_first(*arguments, **options):
        monkeypatch.setattr(reader, "decode", plain)
        compact(Cache(cache.store.url), vacuum=True)
        plain(*arguments, **options)

    monkeypatch.setattr(reader, "decode", compact_first)
    features = opened(cache)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_a_shard_removed_between_commits_and_listing_is_listed_anew(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    plain = Cache.shards

    def compact_next(self, folder=""):
        listed = plain(self, folder)
        monkeypatch.setattr(Cache, "shards", plain)
        compact(Cache(cache.store.url), vacuum=True)
        return listed

    monkeypatch.setattr(Cache, "shards", compact_next)
    assert (opened(cache).rows_of(PROMPTS) >= 0).all()


def test_two_processes_open_and_one_decodes(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    code = (
        "import sys\nfrom teacher_cache import Cache, choose, open_features\nfrom teacher_cache import reader\n"
        "plain = reader.decode\n"
        "def loud(*arguments, **options):\n    print('decoded')\n    plain(*arguments, **options)\n"
        "reader.decode = loud\ncache = Cache(sys.argv[1])\n"
        "print(len(open_features(cache, *choose(cache, None, None))))\n"
    )
    command = [sys.executable, "-c", code, cache.store.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in both]
    assert sorted(outputs[0] + outputs[1]) == ["17", "17", "decoded"]


def test_features_of_another_type_than_the_spec_says_are_refused(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    teacher, encoder = choose(cache, None, None)
    lying = Source({**encoder.spec, "dtype": "float32"}, encoder.digest, encoder.facts)
    with pytest.raises(CacheError, match=r"expected features of shape \(2, 8\) and type float32, found .* of float16"):
        open_features(cache, teacher, lying)


# Damage on this machine


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


FILES = ("features", "feature_sums", "facts", "fact_sums", "prefixes", "order")


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_anywhere_gives_a_wrong_row_and_the_next_opening_heals(cache, name):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    right = expected(PROMPTS)
    opened(cache)
    whole = only(cache, f"matrices/*/{name}.npy").read_bytes()
    for place in range(0, len(whole), 5):
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
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
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


# Caches elsewhere


@pytest.fixture
def remote(tmp_path, cache):
    """A cache on an fsspec file system that is no local folder, with 17 rows in five shards."""
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    url = f"memory://{tmp_path.name}"
    merge([cache], Cache(url, create=True))
    return Cache(url)


def copies(monkeypatch, change=lambda name, path: None):
    """The shards that are fetched, by name; `change` may damage a copy."""
    fetched = []
    plain = Store.copy_to

    def copy_to(store, name, path):
        plain(store, name, path)
        fetched.append(name)
        change(name, path)

    monkeypatch.setattr(Store, "copy_to", copy_to)
    return fetched


def test_a_remote_cache_is_fetched_once_and_its_copies_are_removed(remote, monkeypatch):
    fetched = copies(monkeypatch)
    features = opened(remote)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))
    assert len(fetched) == len(set(fetched)) == 10  # five of features, five indexes of pictures
    assert list((remote.machine_folder / "fetched").iterdir()) == []
    opened(Cache(remote.store.url))
    assert len(fetched) == 10


def test_a_truncated_download_is_fetched_again(remote, monkeypatch):
    cut = set()

    def cut_first(name, path):
        if name not in cut:
            cut.add(name)
            path.write_bytes(path.read_bytes()[:-7])

    fetched = copies(monkeypatch, cut_first)
    features = opened(remote)
    assert len(fetched) == 20
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_a_broken_download_goes_on_where_it_stopped(remote, monkeypatch):
    def fail(name, path):
        if len(fetched) > 4:
            path.write_bytes(b"")

    fetched = copies(monkeypatch, fail)
    with pytest.raises(CacheError, match=r"expected \d+ bytes, found 0"):
        opened(remote)
    whole = {path.name for path in (remote.machine_folder / "fetched").iterdir()}
    assert len(whole) == 4
    monkeypatch.undo()
    fetched = copies(monkeypatch)
    opened(remote)
    assert len(fetched) == 6


def test_a_changed_remote_shard_is_never_read(remote):
    (shard, *_) = [s for s in remote.shards("features/") if s.path.endswith(".parquet")]
    data = bytearray(remote.store.read(shard.path))
    data[-40] ^= 1
    remote.store.write(shard.path, bytes(data))
    for options in ({}, {"max_local_bytes": 1}):
        with pytest.raises(CacheError, match="sha256 differs from the commit's"):
            opened(remote, **options)


# Larger than the machine allows


@pytest.mark.parametrize("where", ["local", "remote", "tars"])
def test_windows_give_the_same_rows_and_keep_no_matrix(cache, remote, where, tmp_path):
    source = {"local": cache, "remote": remote}.get(where)
    if source is None:
        source = Cache(str(tmp_path / "tars"), create=True)
        export(cache, source, "webdataset", shard_rows=5)
    features = opened(source, max_local_bytes=100)
    rows = features.rows_of(PROMPTS[::-1])
    assert np.array_equal(features.take(rows), expected(PROMPTS[::-1]))
    assert features.pictures_of(rows) == opened(cache).pictures_of(opened(cache).rows_of(PROMPTS[::-1]))
    kept = folders(source.machine_folder / "matrices")
    if where != "local":
        assert [folder.name.endswith("-keys") for folder in kept] == [True]
        assert not list(source.machine_folder.glob("fetched/*"))
    assert all(reader.is_whole(folder) for folder in kept)
    with pytest.raises(CacheError, match="there is no matrix; use take"):
        _ = features.matrix


@pytest.mark.parametrize("name", ["places", "feature_sums", "facts"])
def test_no_flipped_bit_gives_a_wrong_row_of_a_window(cache, name):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    right = expected(PROMPTS)
    opened(cache, max_local_bytes=100)
    path = only(cache, f"matrices/*/{name}.npy")
    whole = path.read_bytes()
    refused = 0
    for place in range(128, len(whole), 7):
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


def test_a_small_enough_cache_is_mapped_within_the_bytes_given(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    assert opened(cache, max_local_bytes=1 << 20).matrix.shape == (17, 8)
