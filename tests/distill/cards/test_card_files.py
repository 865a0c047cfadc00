"""Cards of the user: found by path, read as data of bounded size, named by what they say."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from distill.cards.card_files import card_digest, find_task
from distill.cards.cards import load_card
from distill.cards.templates import fill, names_in
from distill.cards.yaml_files import MAX_BYTES
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError

CARD = {
    "name": "mine",
    "title": "My rows",
    "type": "classification",
    "source": {"data": "rows.csv"},
    "text": ["{text}"],
    "label": "label",
    "labels": ["no", "yes"],
    "prompt": "{text}",
    "split": {"train": 80, "validation": 10, "test": 10},
    "metrics": ["accuracy"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a card and its rows, which is not the working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "rows.csv").write_text(
        "text,label\n"
        + "".join(f"t {i},{'yn'[i % 2]}\n" for i in range(60)).replace("y\n", "yes\n").replace("n\n", "no\n")
    )
    return folder


def write(folder, **changes):
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**CARD, **changes}))
    return path


def test_a_task_is_found_by_its_name_or_by_the_path_of_its_card(folder):
    assert find_task("demo/sentiment") == load_card("demo/sentiment")
    assert find_task("demo/sentiment").home is None
    for path in (write(folder), str(folder / "card.yaml"), os.path.relpath(folder / "card.yaml")):
        assert find_task(path).name == "mine"
    (folder / "card.yaml").rename(folder / "card.yml")
    assert find_task(folder / "card.yml").name == "mine"


def test_relative_paths_of_a_card_start_at_its_folder(folder):
    assert len(load_splits(find_task(write(folder))).train) > 30
    (folder / "data").mkdir()
    for name in ("train", "test"):
        rows = pa.table({"text": [f"{name} {i}" for i in range(20)], "label": [i % 2 for i in range(20)]})
        parquet.write_table(rows, folder / "data" / f"{name}.parquet")
    files = {"train": ["train.parquet"], "test": ["test.parquet"]}
    source = {"hub": "./data", "data_files": files, "licence": "mine"}
    split = {"train": "train", "validation": 10, "test": "test"}
    assert len(load_splits(find_task(write(folder, source=source, split=split))).test) == 20
    write(folder, source={"data": "data"}, split=split)
    assert len(load_splits(find_task(folder / "card.yaml")).test) == 20
    other = folder / "other.yaml"
    other.write_text(yaml.safe_dump({**CARD, "train_on": "card.yaml"}))
    assert all(text.startswith("train") for (text,) in load_splits(find_task(other)).train.texts)


def test_training_rows_given_by_data_files_are_tested_on_what_the_card_tests_on(folder):
    more = folder / "more.csv"
    more.write_text("text,label\nnew,yes\nother,no\n" + "\n".join((folder / "rows.csv").read_text().splitlines()[1:]))
    card = find_task(write(folder))
    whole, given = load_splits(card), load_splits(card, more)
    assert given.test == whole.test
    assert set(given.train.ids) > set(whole.train.ids)
    assert given.held_out == len(whole.validation) + len(whole.test)


def test_what_a_card_says_names_it_and_not_its_path_its_name_or_where_its_rows_are(folder):
    first = card_digest(find_task(write(folder)))
    moved = folder.parent / "moved"
    shutil.copytree(folder, moved)
    assert card_digest(find_task(moved / "card.yaml")) == first
    assert card_digest(find_task(write(folder, name="x", title="y", source={"data": "../other.csv"}))) == first
    assert card_digest(find_task(write(folder, labels=["yes", "no"]))) != first
    assert card_digest(find_task(write(folder, prompt="a {text}"))) != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1, 2", r"card.yaml: line \d: expected YAML"),
        ("name: a\nname: b", r"line 2: expected YAML: expected each key once, found 'name' again"),
        ("!!python/object/apply:os.system ['touch owned']", "expected YAML: could not determine a constructor"),
        ("- a\n- b", "expected keys and values, as in `name: mine`, found a list"),
        ("", "expected keys and values, as in `name: mine`, found nothing"),
        ("a: &a [*a]", "expected YAML: expected a value, found one that contains itself"),
        ("[" * 5000, "nested too deep|expected YAML"),
        ("a: 2026-99-99", "expected YAML"),
        ("x: " + "y" * MAX_BYTES, "expected at most 1,048,576 bytes of YAML, found more"),
        (b"name: \xff", "line 1: expected UTF-8, found the byte 0xff"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)),
            "expected at most 100,000 values",
        ),
    ],
)
def test_a_file_that_is_no_card_is_refused_in_one_short_line(folder, content, message):
    path = folder / "card.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArmadaError, match=message) as caught:
        find_task(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": "a\x1b[2J"}, r"title: expected a text of one line, found 'a\\x1b"),
        ({"text": ["{text.__class__}"], "prompt": "{text.__class__}"}, None),
        ({"text": ["{text:>999999999}"], "prompt": "{text:>999999999}"}, None),
        ({"text": ["{text"]}, "text: expected braces in pairs"),
        ({"text": ["{}"]}, "text: expected the name of a column in braces"),
        ({"labels": [0, 1]}, ""),
        ({"labels": [True, False]}, "labels.0: expected a valid string, found True; put it in quotes"),
        ({"source": {"hub": "pandas", "licence": "x"}}, "source.hub: expected OWNER/NAME of the hub"),
        ({"source": {"hub": "a/b", "data_files": {"train": ["../../x.csv"]}, "licence": "x"}}, "inside the source"),
        ({"source": {"package": "os.path", "distribution": "a", "extra": "a", "path": "a", "licence": "a"}}, "package"),
        (
            {"source": {"package": "os", "distribution": "a; rm", "extra": "a", "path": "../a", "licence": "a"}},
            r"(?s)source.distribution.*source.path: expected a path inside the source",
        ),
        (
            {"source": {"dta": "rows.csv"}},
            "source: expected one of the keys package, hub, generator, repository and data",
        ),
        ({"split": {"train": 80, "validation": 10, "tset": 10}}, r"split.tset: unknown key; did you mean test\?"),
        ({"metric": ["accuracy"]}, r"metric: unknown key; did you mean metrics\?"),
        ({"labels": "x" * 5000}, "found 'xxx"),
    ],
)
def test_a_card_runs_nothing_and_shows_nothing_that_it_should_not(folder, changes, message):
    path = write(folder, **changes)
    if message is None:  # the name of a column, which the rows do not have
        with pytest.raises(ArmadaError, match=r"rows.csv: .*expected column 'text"):
            load_splits(find_task(path))
    elif message:
        with pytest.raises(ArmadaError, match=message) as caught:
            find_task(path)
        assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())
        assert len(str(caught.value)) < 1000
    else:
        assert find_task(path).labels == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": {"data": "gone.csv"}},
            "card mine: source.data: expected a file or folder, found nothing at .*cards/gone",
        ),
        (
            {"split": {"train": "train", "validation": 1, "test": "test"}},
            "split: expected percentages, because .* is one table",
        ),
        ({"train_on": "card.yaml"}, "train_on: expected a card with training rows of its own"),
        ({"train_on": "demo/sentimnt"}, r"did you mean demo/sentiment\?"),
        ({"text": ["{txt}"], "prompt": "{txt}"}, r"expected column 'txt', found text, label; did you mean text\?"),
    ],
)
def test_a_card_whose_rows_do_not_fit_is_refused_in_words(folder, changes, message):
    with pytest.raises(ArmadaError, match=message):
        load_splits(find_task(write(folder, **changes)))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("gone.yaml", "gone.yaml: expected a YAML file: No such file"),
        ("pipe.yaml", "pipe.yaml: expected a YAML file, found no plain file"),
        ("folder.yaml", "folder.yaml: expected a YAML file, found a folder"),
        ("rows.csv", "rows are trained on by: armada train rows.csv"),
        ("sentiment", r"no task 'sentiment'; did you mean demo/sentiment\?"),
        ("nothing like it", "no task 'nothing like it'; known: demo/sentiment"),
        ("a\0b.yaml", "expected a YAML file"),
    ],
)
def test_a_task_that_is_none_is_refused_in_words(tmp_path, monkeypatch, task, message):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.yaml")
    Path("folder.yaml").mkdir()
    Path("rows.csv").write_text("a\n")
    with pytest.raises(ArmadaError, match=message):
        find_task(task)


def test_a_template_is_filled_as_python_formats_it_but_reads_no_attribute():
    assert names_in("a {b} {{c}} {d.e!r:>9} {b}") == ["b", "d.e!r:>9", "b"]
    assert fill("{{{a}}} {b.c}", {"a": "{b.c}", "b.c": "x"}) == "{{b.c}} x"
