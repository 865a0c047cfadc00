"""Prompts, rows and features of one's own, in any format, are read, or refused by ArmadaError."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from distill import load_splits
from distill.dataset.own_features import open_own_features
from distill.tasks.new_card import new_card
from distill.tasks.saved_datasets import saved_rows
from teacher_cache import read_column, read_prompts, read_rows
from tests.fuzz.harness import examine, fuzz
from tests.fuzz.mutations import damaged_bytes, damaged_end, damaged_start, odd_json_lines, odd_lines, other_json
from tests.fuzz.test_declared_files import from_file

ROWS = [{"text": f"prompt {number}, é", "label": number % 2, "more": {"a": [number, None]}} for number in range(5)]
FEATURES = pa.table({"prompt": list("abcde"), "sample": [0] * 5, "feature": [[1.0, 2.0]] * 5})
PARQUET = (damaged_end, damaged_end, damaged_bytes, damaged_start)


def as_parquet(table):
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return stream.getvalue()


def odd_tables():
    """Sound Parquet files of other types than one expects."""
    texts = pa.array([row["text"] for row in ROWS])
    types = (pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string()))
    odd = [texts.cast(kind) for kind in types]
    odd += [
        pa.array([None] * 5),
        pa.array(range(5)),
        pa.array([[1.0]] * 5),
        pa.array([{"a": 1}] * 5),
        pa.array([2**40] * 5, pa.timestamp("s")),
    ]
    odd += [
        pa.array([[("a", 1)]] * 5, pa.map_(pa.string(), pa.int64())),
        pa.array([b"\xff"] * 5),
        pa.array([1] * 5, pa.decimal128(38, 9)),
    ]
    odd.append(pa.array([b"\xed\xa0\x80"] * 5).view(pa.string()))
    yield from (as_parquet(pa.table({"text": column})) for column in odd)
    vectors = pa.array([[1.0, 2.0]] * 5)
    yield from (as_parquet(pa.table({"prompt": column, "feature": vectors})) for column in odd)
    yield from (as_parquet(pa.table({"prompt": texts, "sample": column, "feature": vectors})) for column in odd)
    yield as_parquet(pa.Table.from_arrays([texts, texts, vectors], ["prompt", "prompt", "feature"]))
    yield as_parquet(pa.Table.from_arrays([texts, vectors, vectors], ["prompt", "feature", "feature"]))
    for values in ([[None, 1.0]] * 5, [[]] * 5, [None] * 5, [[float("nan")] * 2] * 5, [[1.0]] * 4 + [[1.0, 2.0]]):
        yield as_parquet(pa.table({"prompt": texts, "feature": pa.array(values, pa.list_(pa.float32()))}))
    yield as_parquet(pa.Table.from_arrays([texts, texts], ["text", "text"]))
    yield as_parquet(pa.table({"text": texts}).slice(0, 0))
    yield as_parquet(pa.table({"text": texts}).drop_columns("text"))


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv", ".parquet"])
def test_prompts_are_read_or_refused(tmp_path, ending):
    seeds = {
        ".txt": "".join(f"prompt {number} é\n" for number in range(9)).encode(),
        ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        ".csv": b'text,label\n"a, b",1\n"c ""d""",2\ne,3\n',
        ".parquet": as_parquet(pa.Table.from_pylist(ROWS)),
    }
    damage = {".jsonl": (odd_json_lines, odd_json_lines, odd_lines, damaged_bytes), ".parquet": PARQUET}
    path = tmp_path / f"prompts{ending}"
    read = from_file(read_prompts, path)
    fuzz(f"prompts{ending}", [seeds[ending]], damage.get(ending, (odd_lines, damaged_bytes)), read, tmp_path)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_rows_are_read_or_refused(tmp_path, ending):
    seeds = {
        ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        ".csv": b'text,label\n"a, b",1\n"c ""d""",2\ne,3\n',
        ".parquet": as_parquet(pa.Table.from_pylist(ROWS)),
    }
    damage = {".jsonl": (odd_json_lines, odd_lines, damaged_bytes), ".parquet": PARQUET}

    def read(path):
        return read_rows(path, []), list(read_column(path, "label"))

    path = tmp_path / f"rows{ending}"
    fuzz(
        f"rows{ending}",
        [seeds[ending]],
        damage.get(ending, (odd_lines, damaged_bytes)),
        from_file(read, path),
        tmp_path,
    )


def test_sound_tables_of_other_types_are_read_or_refused(tmp_path):
    prompts = from_file(lambda path: (read_rows(path, []), read_prompts(path)), tmp_path / "odd.parquet")
    features = features_of(tmp_path, False)
    for read, seed in ((prompts, pa.Table.from_pylist(ROWS)), (features, FEATURES)):
        read(as_parquet(seed))
        examine("odd table", odd_tables(), read, tmp_path)


def features_of(folder, is_array):
    """Return a reader of the bytes of a file of features."""
    from tests.distill.tiny import split

    rows, path = split(5), folder / ("features.npy" if is_array else "features.parquet")

    def read(data):
        path.write_bytes(data)
        found = open_own_features(path, None, rows)
        return found.places(rows), found.take(np.arange(min(3, found.rows.shape[0])))

    return read


def test_features_of_ones_own_in_an_array_are_read_or_refused(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.ones((5, 4), np.float32))
    (tmp_path / "features.npy.keys.txt").write_text("a\nb\nc\nd\ne\n")
    damage = (damaged_start, damaged_start, damaged_bytes)
    fuzz("features.npy", [stream.getvalue()], damage, features_of(tmp_path, True), tmp_path)


def test_features_of_ones_own_in_a_table_are_read_or_refused(tmp_path):
    fuzz("features.parquet", [as_parquet(FEATURES)], PARQUET, features_of(tmp_path, False), tmp_path)


def test_keys_of_features_are_read_or_refused(tmp_path):
    np.save(tmp_path / "features.npy", np.ones((5, 4), np.float32))
    array = (tmp_path / "features.npy").read_bytes()
    keys = tmp_path / "features.npy.keys.jsonl"
    objects = "".join(json.dumps({"prompt": f"p{number}", "sample": 0}) + "\n" for number in range(5)).encode()
    texts = "".join(json.dumps(f"p{number}") + "\n" for number in range(5)).encode()

    def read(data):
        keys.write_bytes(data)
        return features_of(tmp_path, True)(array)

    damage = (odd_json_lines, odd_json_lines, odd_lines, damaged_bytes)
    fuzz("keys.jsonl", [objects, texts], damage, read, tmp_path)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_task_of_rows_of_ones_own_is_made_or_refused(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"a text {number}", "label": "ab"[number % 2], "n": number / 2} for number in range(30)]
    table = pa.Table.from_pylist(rows)
    seeds = {
        ".jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        ".csv": b"text,label,n\n" + b"".join(f"a text {i},{'ab'[i % 2]},{i / 2}\n".encode() for i in range(30)),
        ".parquet": as_parquet(table),
    }
    damage = {".jsonl": (odd_json_lines, odd_json_lines, odd_lines, damaged_bytes), ".parquet": PARQUET}
    path = tmp_path / f"mine{ending}"

    def read(path):
        return load_splits(new_card(str(path)).card.at(tmp_path))

    fuzz(
        f"own rows{ending}",
        [seeds[ending]],
        damage.get(ending, (odd_lines, damaged_bytes)),
        from_file(read, path),
        tmp_path,
        count=60,
    )


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_folder_that_datasets_saved_is_read_or_refused(tmp_path, name):
    import datasets

    datasets.disable_progress_bars()
    folder = tmp_path / "saved"
    datasets.Dataset.from_list([{"text": f"t {number}", "label": number % 2} for number in range(9)]).save_to_disk(
        folder
    )
    seed = (folder / name).read_bytes()
    damage = (
        (damaged_bytes, other_json, other_json)
        if name.endswith(".json")
        else (damaged_bytes, damaged_start, damaged_end)
    )

    def read(data):
        (folder / name).write_bytes(data)
        return list(saved_rows(folder, ["text", "label"], ["a", "b"]))

    fuzz(f"saved {name}", [seed], damage, read, tmp_path, count=60)
