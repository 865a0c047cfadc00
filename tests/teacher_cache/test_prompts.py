"""Every kind of prompts file is read, and every kind of bad row is an error with file, row and column."""

import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from teacher_cache import PromptError, read_prompts

GOOD = ["a cat", "naïve café", "مرحبا بالعالم", "🐈‍⬛ emoji", "x" * 100_000, 'quote " and, comma']


def write(folder, name, rows):
    path = folder / name
    if path.suffix == ".txt":
        path.write_text("\n".join(rows) + "\n", "utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"id": i, "text": row}) for i, row in enumerate(rows)), "utf-8")
    elif path.suffix == ".csv":
        lines = ["id,text", *('{},"{}"'.format(i, row.replace('"', '""')) for i, row in enumerate(rows))]
        path.write_text("\n".join(lines), "utf-8")
    else:
        parquet.write_table(pa.table({"id": list(range(len(rows))), "text": rows}), path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_prompts(tmp_path, suffix):
    assert read_prompts(write(tmp_path, "prompts" + suffix, GOOD)) == GOOD


def test_a_text_file_keeps_unusual_line_separators_inside_a_prompt(tmp_path):
    assert read_prompts(write(tmp_path, "p.txt", ["one\u2028line", "two"])) == ["one\u2028line", "two"]


def test_prompts_are_read_from_the_named_column(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("a,b\n1,hello\n")
    assert read_prompts(path, "b") == ["hello"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"text": "a"}', '{"text": null}'], "row 2, column 'text': expected a text, found null"),
        (['{"text": "a"}', '{"text": 7}'], "row 2, column 'text': expected a text, found the int 7"),
        (['{"text": "a"}', '{"text": "  "}'], "row 2, column 'text': expected a text, found an empty text"),
        (['{"text": "a\\ud800"}'], "row 1, column 'text': expected a text, found a lone surrogate at character 2"),
        (['{"text": ["a", {"b": ["c\\udc00"]}]}'], "row 1, column 'text': .*found a lone surrogate at character 2"),
        (['{"text": {"a\\ud800": 1}}'], "row 1, column 'text': expected a text, found a lone surrogate at character 2"),
        (['{"caption": "a"}'], "row 1: expected column 'text', found caption"),
        (['{"text": "a"}'] * 5000 + ["{oops"], "line 5001: expected a JSON object"),
        (["[1]"], "line 1: expected a JSON object, found list"),
        ([], "expected at least one prompt, found none"),
    ],
)
def test_the_error_of_a_bad_row_names_file_row_and_column(tmp_path, rows, message):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(PromptError, match=message) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"id,caption\n1,a\n", "expected column 'text', found id, caption"),
        ("p.csv", b"", "no readable CSV"),
        ("p.txt", b"fine\n\xff\xfe\n", "line 2: expected UTF-8, found the byte 0xff"),
        ("p.parquet", b"PAR1 or not", "no readable Parquet"),
        ("p.xlsx", b"", "expected a file ending in .txt, .jsonl, .csv, .parquet, found .xlsx"),
    ],
)
def test_the_error_of_a_bad_file_states_what_was_expected(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PromptError, match=message):
        read_prompts(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(PromptError, match="no such file"):
        read_prompts(tmp_path / "nothing.txt")


def test_a_numeric_column_of_a_parquet_file_is_an_error(tmp_path):
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.table({"text": [1, 2]}), path)
    with pytest.raises(PromptError, match="found the int 1"):
        read_prompts(path)
