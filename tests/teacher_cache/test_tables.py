"""Tables are read whatever lies in the fields that are not asked for; what can't be read is named."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from teacher_cache import PromptError, read_csv, read_prompts, read_rows, tables


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("size", [1 << 20, 5 << 20])
def test_a_csv_row_may_be_larger_than_a_block(tmp_path, place, size):
    rows = [["a red kite", "1"], ["a green\nkite", "2"], ["a blue kite", "3"]]
    rows[place][1] = "A" * size
    with (tmp_path / "p.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["text", "image_base64"], *rows])
    assert read_prompts(tmp_path / "p.csv") == [row[0] for row in rows]
    assert [row["image_base64"] for row in read_rows(tmp_path / "p.csv", [])] == [row[1] for row in rows]


def test_a_csv_file_that_is_broken_is_refused_at_every_block_size(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCKS", (64, 256))
    (tmp_path / "p.csv").write_text("text,n\n" + "a,1\n" * 500 + "b\n")
    with pytest.raises(PromptError, match=r"p\.csv: no readable CSV"):
        read_prompts(tmp_path / "p.csv")


@pytest.mark.parametrize("text", ["text,n\nfine,1\nna\u00efve,2\n", "text,n\na,1\n"])
def test_a_csv_file_in_another_encoding_is_refused_by_line(tmp_path, text):
    encoding, line = ("latin-1", 3) if "\u00ef" in text else ("utf-16", 1)
    (tmp_path / "p.csv").write_text(text, encoding)
    with pytest.raises(PromptError, match=rf"p\.csv: line {line}: expected UTF-8, found the byte 0x"):
        read_prompts(tmp_path / "p.csv")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_the_header_of_a_csv_file_is_csv_too(tmp_path, bom):
    (tmp_path / "p.csv").write_bytes(bom + b'"my text","a, b"\na,1\n')
    assert read_prompts(tmp_path / "p.csv", "my text") == ["a"]
    assert read_csv(tmp_path / "p.csv", ["a, b"]) == [{"a, b": "1"}]
    with pytest.raises(PromptError, match="expected column 'text', found my text, a, b"):
        read_prompts(tmp_path / "p.csv")


def test_a_column_that_is_there_twice_is_named_only_if_it_is_asked_for(tmp_path):
    (tmp_path / "p.csv").write_text("text,text,n\na,b,1\n")
    with pytest.raises(PromptError, match="expected one column 'text', found 2"):
        read_prompts(tmp_path / "p.csv")
    assert read_prompts(tmp_path / "p.csv", "n") == ["1"]


@pytest.mark.parametrize("value", ["7" * 4301, "-" + "7" * 100_000, "1e999999", "NaN", '"\\ud800"', '{"a": [1]}'])
def test_a_json_field_that_is_not_asked_for_breaks_nothing(tmp_path, value):
    (tmp_path / "p.jsonl").write_text('{"text": "a red kite", "x": ' + value + "}\n")
    assert read_prompts(tmp_path / "p.jsonl") == ["a red kite"]


@pytest.mark.parametrize("brackets", ["[]", "{}"])
@pytest.mark.parametrize("depth", [2000, 200_000])
def test_json_that_is_nested_too_deep_for_python_is_refused_by_file_and_line(tmp_path, brackets, depth):
    left, right = ('{"a":' * depth + "1", "}" * depth) if brackets == "{}" else ("[" * depth, "]" * depth)
    (tmp_path / "p.jsonl").write_text('{"text": "a"}\n{"text": "b", "x": ' + left + right + "}\n")
    try:
        json.loads(left + right)
    except RecursionError:
        with pytest.raises(PromptError, match=r"p\.jsonl: line 2: .*nested too deep"):
            read_prompts(tmp_path / "p.jsonl")
    else:  # 2,000 levels are few for Python 3.13
        assert read_prompts(tmp_path / "p.jsonl") == ["a", "b"]


def test_all_columns_are_read_if_none_is_named(tmp_path):
    rows = [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "p.csv").write_text("a,b\n1,2\n3,4\n")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert all(read_rows(tmp_path / f"p{suffix}", []) == rows for suffix in tables.SUFFIXES)


def test_a_folder_of_parts_is_read_as_one_table_in_the_order_of_its_parts(tmp_path):
    for suffix in tables.SUFFIXES:
        folder = tmp_path / f"p{suffix}"
        folder.mkdir()
        (folder / "_SUCCESS").touch()
        (folder / "_temporary").mkdir()
        (folder / "_temporary" / f"part-7{suffix}").write_text("half")
        (folder / f".part-2{suffix}.crc").write_bytes(b"crc")
        for part in (2, 10, 0):
            path = folder / f"part-{part}{suffix}"
            if suffix == ".parquet":
                parquet.write_table(pa.table({"text": [f"number {part}"]}), path)
            elif suffix == ".csv":
                path.write_text(f"text\nnumber {part}\n")
            else:
                path.with_suffix(".json").write_text(json.dumps({"text": f"number {part}"}))
        assert read_prompts(folder) == ["number 0", "number 2", "number 10"]


def test_the_columns_of_a_partitioned_parquet_folder_are_read(tmp_path):
    for label in (0, 1):
        (tmp_path / "p.parquet" / f"label={label}").mkdir(parents=True)
        parquet.write_table(
            pa.table({"text": [f"text {label}"]}), tmp_path / "p.parquet" / f"label={label}" / "0.parquet"
        )
    rows = read_rows(tmp_path / "p.parquet", ["text", "label"])
    assert rows == [{"text": "text 0", "label": 0}, {"text": "text 1", "label": 1}]
    with pytest.raises(PromptError, match=r"p\.parquet: expected column 'prompt', found text, label"):
        read_prompts(tmp_path / "p.parquet", "prompt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p.parquet", "a folder without any .parquet file"),
        ("p.csv", "a folder without any .csv file"),
        ("p.txt", "is a folder, expected a file"),
        ("prompts", "expected a file ending in .txt, .jsonl, .csv, .parquet, found a folder"),
    ],
)
def test_a_folder_that_is_no_table_is_called_a_folder(tmp_path, name, message):
    (tmp_path / name).mkdir()
    (tmp_path / name / "part-0.txt").write_text("a")
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize("suffix", [".txt", *tables.SUFFIXES])
def test_a_file_that_does_not_exist_is_named(tmp_path, suffix):
    with pytest.raises(PromptError, match=f"gone{suffix}: no such file"):
        read_prompts(tmp_path / f"gone{suffix}")
