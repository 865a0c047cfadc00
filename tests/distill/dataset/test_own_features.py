"""Features of one's own: joined by key, whatever the file and its order, and refused if one is missing or wrong."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from distill.controls import CONTROLS
from distill.dataset.join import join, join_lazily
from distill.dataset.mending import FileMending
from distill.dataset.own_features import open_own_features
from teacher_cache import ArmadaError, CoverageError, prompt_key
from tests.distill.tiny import split

ROWS = split(20)
WIDTH = 6


def vectors(rows=len(ROWS), dtype=np.float32):
    return np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(dtype)


def keys_of(kind):
    return {"prompt": ROWS.prompts, "id": ROWS.ids, "prompt_key": [prompt_key(one) for one in ROWS.prompts]}[kind]


def table(path, keys, values, name="prompt", column="feature", **more):
    lists = values if isinstance(values, pa.Array) else pa.array(list(values))
    parquet.write_table(pa.table({name: keys, column: lists, **more}), path)
    return path


def array(path, keys, values, end="txt"):
    np.save(path, values)
    beside = path.with_name(f"{path.name}.keys.{end}")
    if end == "parquet":
        parquet.write_table(pa.table({"prompt": keys}), beside)
    else:
        lines = [json.dumps({"prompt": key} if end == "jsonl" else key) if end != "txt" else key for key in keys]
        beside.write_text("".join(line + "\n" for line in lines))
    return path


def joined(path, keys=None, lazily=False, **how):
    features = open_own_features(path, keys, ROWS)
    mend = FileMending(str(path), features.kind, features.some_keys, ("a key",), "listed by: armada tasks")
    return (join_lazily if lazily else join)(ROWS, None, features, mend=mend, **how)


@pytest.mark.parametrize("kind", ["prompt", "prompt_key", "id"])
@pytest.mark.parametrize("end", ["txt", "jsonl", "parquet", "table", "fixed-size table"])
def test_rows_are_joined_by_key_in_any_file_and_any_order(tmp_path, kind, end):
    values, keys = vectors(), keys_of(kind)
    order = np.random.default_rng(1).permutation(len(ROWS))
    shuffled, names = values[order], [keys[row] for row in order]
    if end == "table":
        path = table(tmp_path / "f.parquet", names, shuffled, kind)
    elif end == "fixed-size table":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(shuffled.reshape(-1)), WIDTH)
        path = table(tmp_path / "f.parquet", names, lists, kind, "anything")
    elif end == "parquet":
        path = tmp_path / "f.npy"
        np.save(path, shuffled)
        parquet.write_table(pa.table({kind: names}), tmp_path / "f.keys.parquet")
    else:
        path = array(tmp_path / "f.npy", names, shuffled, end if kind == "prompt" else "txt")
    view = joined(path)
    assert np.array_equal(view.features, values)
    assert view.coverage.is_full
    assert view.digest == joined(array(tmp_path / "plain.npy", ROWS.prompts, values)).digest


def test_the_digest_of_a_view_is_that_of_its_content_and_not_of_the_file(tmp_path):
    first = joined(array(tmp_path / "a.npy", ROWS.prompts, vectors()))
    more = [*ROWS.prompts, "a row that nobody trains on"]
    values = np.concatenate([vectors(), np.ones((1, WIDTH), np.float32)])
    assert joined(array(tmp_path / "c.npy", more, values)).digest == first.digest
    values[3, 2] += 1
    assert joined(array(tmp_path / "d.npy", more, values)).digest != first.digest


@pytest.mark.parametrize("end", [".npy", ".parquet"])
def test_rows_without_a_sound_feature_stop_the_run_with_examples(tmp_path, end):
    values = vectors(dtype=np.float64)
    values[1, 0], values[2], values[3, 1] = np.nan, 0.0, 1e300  # which float32 can't hold
    keys, rest = ROWS.prompts[:-2], values[:-2]
    path = tmp_path / f"f{end}"
    path = array(path, keys, rest) if end == ".npy" else table(path, keys, rest)
    with pytest.raises(CoverageError) as caught:
        joined(path)
    words = str(caught.value)
    for part in (
        "coverage: 15 of 20 training rows have a feature", "missing: 2", "not finite or zero: 3",
        repr(ROWS.prompts[1]), f"{path}: its keys are compared with the prompt of each row", repr(keys[0]), "'a key'",
        "listed by: armada tasks", "--missing drop",
    ):  # fmt: skip
        assert part in words
    assert len(joined(path, drop_missing=True).split) == 15


def test_keys_of_other_texts_find_nothing_and_the_error_shows_both(tmp_path):
    with pytest.raises(CoverageError, match=r"coverage: 0 of 20(.|\n)*it has, for example, 'other'"):
        joined(array(tmp_path / "f.npy", ["other"] * 20, vectors()))


def test_vectors_of_another_length_are_counted_with_examples(tmp_path):
    values = [list(row) for row in vectors()]
    values[4], values[7] = values[4][:-1], [*values[7], 1.0]
    path = table(tmp_path / "f.parquet", ROWS.prompts, values)
    with pytest.raises(CoverageError) as caught:
        joined(path)
    words = str(caught.value)
    assert "column feature: expected vectors of one length, found 2 of 20 rows" in words
    assert f"{ROWS.prompts[4]!r} has 5" in words
    assert f"{ROWS.prompts[7]!r} has 7" in words


def test_a_row_whose_vector_is_null_is_missing(tmp_path):
    values = [list(row) for row in vectors()]
    values[5] = None
    with pytest.raises(CoverageError, match="missing: 1"):
        joined(table(tmp_path / "f.parquet", ROWS.prompts, values))


def test_several_rows_of_a_key_are_its_samples(tmp_path):
    first, second = vectors(), -2 * vectors()
    path = array(tmp_path / "f.npy", [*ROWS.prompts, *ROWS.prompts], np.concatenate([first, second]))
    assert np.array_equal(joined(path).features, first)
    assert np.allclose(joined(path, samples=2).features, (first + second) / 2)
    drawn = joined(path, samples=2, combine="draw").features
    assert np.array_equal(drawn.features[drawn.places[:, 1]], second)
    with pytest.raises(CoverageError, match="0 of 20 training rows have features of 3 pictures"):
        joined(path, samples=3)
    numbered = table(
        tmp_path / "f.parquet",
        [*ROWS.prompts, *ROWS.prompts],
        np.concatenate([second, first]),
        sample=[1] * 20 + [0] * 20,
    )
    assert np.array_equal(joined(numbered).features, first)


@pytest.mark.parametrize("control", [name for name, one in CONTROLS.items() if one.encoder is None])
def test_controls_work_as_with_a_cache(tmp_path, control):
    values = vectors()
    values[1] = values[0]  # the same picture twice
    path = array(tmp_path / "f.npy", ROWS.prompts, values)
    view, real = joined(path, control=control), joined(path)
    assert view.features.shape == values.shape
    if CONTROLS[control].features == "real":
        assert view.digest == real.digest
        return
    assert view.digest != real.digest
    if control == "shuffled":
        assert not np.array_equal(view.features, values)
        assert sorted(view.features[:, 0]) == sorted(values[:, 0])
        assert np.array_equal(view.features, joined(path, control=control, lazily=True).features.take(np.arange(20)))
    if control == "random-per-picture":
        assert np.array_equal(view.features[0], view.features[1])


def test_an_array_is_mapped_and_read_row_by_row_where_it_is_large(tmp_path):
    path = array(tmp_path / "f.npy", ROWS.prompts, vectors(dtype=np.float16))
    assert isinstance(open_own_features(path, None, ROWS).rows.array, np.memmap)
    whole, parts = joined(path), joined(path, lazily=True)
    assert np.array_equal(parts.features.take(np.arange(20)), whole.features)
    assert whole.digest == parts.digest
    assert whole.features.dtype == np.float16


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def broken(tmp_path):
    """Files by what is said of them."""
    np.save(tmp_path / "flat.npy", np.zeros(20))
    np.save(tmp_path / "whole.npy", np.zeros((20, 2), int))
    np.save(tmp_path / "objects.npy", np.array([Bomb()], object), allow_pickle=True)
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "text.parquet").write_text("no parquet")
    np.save(tmp_path / "cut.npy", vectors())
    data = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(data[:-50])
    array(tmp_path / "few.npy", ROWS.prompts[:3], vectors())
    np.save(tmp_path / "alone.npy", vectors())
    array(tmp_path / "two.npy", ROWS.prompts, vectors())
    (tmp_path / "two.npy.keys.jsonl").write_text("")
    array(tmp_path / "json.npy", [3], vectors(1), "jsonl")
    (tmp_path / "json.npy.keys.jsonl").write_text("3\n")
    array(tmp_path / "empty.npy", [], vectors(0))
    (tmp_path / "empty.npy.keys.txt").write_text("")
    table(tmp_path / "unnamed.parquet", ROWS.prompts, vectors(), "caption")
    table(tmp_path / "numbers.parquet", list(range(20)), vectors())
    table(tmp_path / "twice.parquet", [ROWS.prompts[0]] * 20, vectors(), sample=[0] * 20)
    table(tmp_path / "sample.parquet", ROWS.prompts, vectors(), sample=[-1] * 20)
    parquet.write_table(pa.table({"prompt": ROWS.prompts}), tmp_path / "bare.parquet")
    lists = pa.array(list(vectors()))
    parquet.write_table(pa.table({"prompt": ROWS.prompts, "a": lists, "b": lists}), tmp_path / "several.parquet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.npy", "--features: no such file"),
        ("flat.npy", r"expected an array of rows and numbers.*found the shape \(20,\)"),
        ("whole.npy", "of float16, float32 or float64, found int64"),
        ("objects.npy", "expected an array of rows and numbers.*Python objects"),
        ("pickled.npy", "expected an array of rows and numbers"),
        ("cut.npy", "expected an array of rows and numbers"),
        ("text.parquet", "expected a Parquet file"),
        ("few.npy", "expected a key for each of the 20 rows .* found 3"),
        ("alone.npy", r"expected one file with the key of each row beside it, as alone\.npy\.keys\.txt .*found none"),
        ("two.npy", r"found two\.npy\.keys\.txt, two\.npy\.keys\.jsonl"),
        ("json.npy", "line 1: expected a text, or an object"),
        ("empty.npy", "found no row|expected a key for each of the 0 rows"),
        ("unnamed.parquet", r"expected a column of keys \(prompt_key, prompt, id, text\), found caption, feature"),
        ("numbers.parquet", "column prompt, row 0: expected a text, found 0"),
        ("twice.parquet", "expected one row for sample 0 of .* found several"),
        ("sample.parquet", "column sample, row 0: expected a number from 0 to 999, found -1"),
        ("bare.parquet", "expected one column of lists of floating-point numbers.*found none among prompt"),
        ("several.parquet", "expected one column of lists .*found a, b"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused_in_words_and_nothing_in_it_is_executed(tmp_path, name, message):
    broken(tmp_path)
    with pytest.raises(ArmadaError, match=message):
        joined(tmp_path / name)


def test_the_file_of_keys_may_be_named(tmp_path):
    np.save(tmp_path / "f.npy", vectors())
    (tmp_path / "mine.txt").write_text("\r\n".join(ROWS.prompts) + "\r\n")
    assert np.array_equal(joined(tmp_path / "f.npy", tmp_path / "mine.txt").features, vectors())
    with pytest.raises(ArmadaError, match=r"--feature-keys: expected a file ending in \.txt, \.jsonl or \.parquet"):
        joined(tmp_path / "f.npy", tmp_path / "f.npy")
    with pytest.raises(ArmadaError, match="--feature-keys: no such file"):
        joined(tmp_path / "f.npy", tmp_path / "none.txt")
