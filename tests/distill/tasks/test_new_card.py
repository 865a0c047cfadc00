"""A card of rows of one's own: columns and kinds of task are guessed from plain names and values, and said."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from distill.cards.card_files import find_task
from distill.cards.cards import METRICS_OF
from distill.tasks.guesses import answers_of, find_columns
from distill.tasks.new_card import card_text, new_card
from distill.tasks.prompts import column_prompts, training_prompts
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError

LETTERS = "abcdefgh"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def jsonl(path, rows):
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def csv(path, header, rows):
    Path(path).write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_a_csv_with_the_column_category_becomes_a_task_of_its_classes():
    rows = csv("mine.csv", "id,text,category", [f"{i}, a text {i} ,{LETTERS[i % 5]}" for i in range(500)])
    made = new_card(rows)
    assert (made.card.name, made.card.type, made.card.labels) == ("mine", "classification", list("abcde"))
    assert made.said == (
        "label column: 'category', guessed; another one is named by --label-column",
        "text column: 'text', guessed; others are named by --text-column",
        "type: classification, 5 classes: a, b, c, d, e",
        "split: 80 % train, 10 % validation, 10 % test, decided by the text of each row",
    )
    splits = load_splits(made.card)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 500
    assert 30 < len(splits.validation) < 70
    assert 30 < len(splits.test) < 70


def test_the_split_of_a_row_does_not_depend_on_the_other_rows_or_their_order():
    rows = [f"text {i},{LETTERS[i % 2]}" for i in range(300)]
    first = load_splits(new_card(csv("a.csv", "text,label", rows)).card)
    second = load_splits(
        new_card(csv("b.csv", "label,text", [",".join(row.split(",")[::-1]) for row in rows[:150]])).card
    )
    for name in ("train", "validation", "test"):
        assert set(getattr(second, name).ids) <= set(getattr(first, name).ids)


def test_two_text_columns_are_pairs_and_both_reach_student_and_teacher():
    rows = jsonl(
        "pairs.jsonl", [{"claim": f" one {i}", "source text": f"two {i} ", "ok": i % 2 == 0} for i in range(60)]
    )
    made = new_card(rows, "claim,source text", "ok")
    assert made.card.labels == ["false", "true"]
    train = load_splits(made.card).train
    assert all(prompt == " ".join(texts) for prompt, texts in zip(train.prompts, train.texts, strict=True))
    number = {int(texts[0].split()[1]): label for texts, label in zip(train.texts, train.labels, strict=True)}
    assert all(label == (i % 2 == 0) for i, label in number.items())


@pytest.mark.parametrize(
    ("columns", "texts", "label"),
    [
        (["premise", "hypothesis", "label"], ("premise", "hypothesis"), "label"),
        (["Label", "Text"], ("Text",), "Label"),
        (["sentence1", "sentence2", "score"], ("sentence1", "sentence2"), "score"),
        (["words of mine", "category"], ("words of mine",), "category"),
        (["review", "stars and more", "target"], ("review",), "target"),
    ],
)
def test_columns_with_plain_names_are_found(columns, texts, label):
    found = find_columns("rows", columns, None, None)
    assert (found.texts, found.labels) == (texts, (label,))
    assert all("guessed" in line for line in found.said)


@pytest.mark.parametrize(
    ("columns", "text", "label", "message"),
    [
        (["a", "b", "c"], None, None, "which column has the label? name it by --label-column, of: a, b, c"),
        (["a", "b", "label"], None, None, "which column has the text? name it by --text-column, of: a, b, label"),
        (["text", "categry"], "txt", "categry", "no column 'txt'; found text, categry; did you mean text?"),
        (["text", "category"], None, "Categori", "--label-column: no column 'Categori'.*did you mean category"),
        (["text", "label"], "text", "text", "expected a column other than --text-column, found 'text' in both"),
        (["a", "b", "c", "label"], "a,b,c", None, "expected one column, or two for pairs of texts, found 3"),
        (["a", "label"], "a,a", None, "expected each column once"),
        (["text;label"], None, None, "text;label .one column: expected commas between columns, found ';'"),
    ],
)
def test_what_cannot_be_guessed_is_an_error_that_lists_the_columns(columns, text, label, message):
    with pytest.raises(ArmadaError, match=message.replace("?", r"\?")):
        find_columns("rows", columns, text, label)


@pytest.mark.parametrize("column", ["a,b", "a.b:c[0]", "a!r", "0", "a b"])
def test_a_column_may_have_any_name_without_braces(column):
    made = new_card(jsonl("r.jsonl", [{column: f"x {i}", "l.c": "yn"[i % 2]} for i in range(40)]), column, "l.c")
    train = load_splits(made.card).train
    assert all(
        prompt == text.strip() and text.startswith("x ")
        for prompt, (text,) in zip(train.prompts, train.texts, strict=True)
    )


def test_a_column_with_a_brace_in_its_name_is_refused():
    with pytest.raises(ArmadaError, match="expected a name without braces; rename the column"):
        new_card(jsonl("b.jsonl", [{"{t}": "x", "label": 1}, {"{t}": "y", "label": 0}]), "{t}")


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["b", "a", " b ", None, ""], "classification", ["a", "b"]),
        ([2, 0, 1, 10], "classification", ["0", "1", "2", "10"]),
        (["2", "0", "1.0"], "classification", ["0", "1", "2"]),
        ([True, False], "classification", ["false", "true"]),
        (["True", "false"], "classification", ["false", "true"]),
        ([-1, 1], "classification", ["-1", "1"]),
        ([1.0, 2.0, float("nan")], "classification", ["1", "2"]),
        ([0.5, 1, 2], "regression", []),
        (["0.25", "3"], "regression", []),
        (list(range(40)), "regression", []),
        ([["x"], ["y", "x"], []], "multi-label", ["x", "y"]),
        (["['x']", '["y", "x"]'], "multi-label", ["x", "y"]),
        ([[0, 1, 1], [1, 0, 0]], "multi-label", ["label 0", "label 1", "label 2"]),
    ],
)
def test_the_values_of_the_label_decide_the_type(values, kind, classes):
    found = answers_of("rows", "label", values)
    assert (found.type, found.classes) == (kind, classes)
    assert found.said.startswith(f"type: {kind}")


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([None, "", float("nan")], None, "column 'label': expected labels, found none in 3 rows"),
        (["a", "a"], None, "expected at least two classes, found only 'a'"),
        ([1.5, 1.5], None, "expected different numbers, found 1.5 in all rows"),
        ([f"text {i}" for i in range(50)], None, "expected classes, found 50 different values in 50 rows"),
        (["1", "two"], "regression", "expected finite numbers, found 'two'"),
        ([{"a": 1}], None, "expected a class in each row"),
        (["a", "b"], "multi-label", "expected a list of labels in each row, or several columns of 0 and 1"),
    ],
)
def test_labels_that_make_no_task_are_refused_by_their_column(values, kind, message):
    with pytest.raises(ArmadaError, match=f"rows: column 'label': .*{message}|{message}"):
        answers_of("rows", "label", values, kind)


def test_numbers_that_are_scores_are_a_regression_where_the_user_says_so():
    rows = jsonl("stars.jsonl", [{"text": f"t {i}", "stars": i % 5} for i in range(50)])
    assert "--type regression" in new_card(rows, label="stars").said[1]
    made = new_card(rows, label="stars", type="regression")
    assert load_splits(made.card).train.labels[0] in {0.0, 1.0, 2.0, 3.0, 4.0}
    with pytest.raises(ArmadaError, match=r"--type: expected one of .* did you mean regression\?"):
        new_card(rows, label="stars", type="regresion")


def test_labels_of_several_columns_or_lists_are_multi_label():
    rows = [{"text": f"t {i}", "a": i % 2, "b": 1, "tags": ["x", "y"][: i % 3]} for i in range(40)]
    path = jsonl("m.jsonl", rows)
    if "multi-label" not in METRICS_OF:  # the schema of cards has no such type yet
        with pytest.raises(ArmadaError, match="there are no multi-label tasks yet"):
            new_card(path, label="a,b")
        return
    several = load_splits(new_card(path, label="a,b").card)
    assert {label for label in several.train.labels} == {(1,), (0, 1)}
    assert {label for label in load_splits(new_card(path, label="tags").card).train.labels} == {(), (0,), (0, 1)}
    with pytest.raises(ArmadaError, match="column 'text': expected 0 or 1 in each of several label columns"):
        new_card(path, text="tags", label="a,text")


def test_a_folder_with_its_own_splits_keeps_them():
    for name, count in {"train": 90, "test": 20, "dev": 15}.items():
        jsonl(f"data/{name}.jsonl", [{"text": f"{name} {i}", "label": LETTERS[i % 3]} for i in range(count)])
    made = new_card("data")
    assert made.said[-1] == "split: trained on train, tested on test, validated on validation"
    splits = load_splits(made.card)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (90, 15, 20)
    Path("data/test.jsonl").unlink()
    made = new_card("data")
    assert made.said[-1] == "split: trained on train, tested on validation, validated on 10 % of train"
    assert len(load_splits(made.card).test) == 15
    Path("data/dev.jsonl").unlink()
    splits = load_splits(new_card("data").card)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 90


def test_a_class_that_only_the_test_rows_have_is_a_class():
    jsonl("data/train.jsonl", [{"text": f"a {i}", "label": "xy"[i % 2]} for i in range(9)])
    jsonl("data/test.jsonl", [{"text": f"b {i}", "label": "z"} for i in range(3)])
    assert new_card("data").card.labels == ["x", "y", "z"]


def test_the_same_rows_as_train_and_test_are_refused():
    rows = [{"text": f"t {i}", "label": LETTERS[i % 3]} for i in range(30)]
    jsonl("data/train.jsonl", rows)
    csv("data/test.csv", "text,label", [f"{row['text']},{row['label']}" for row in reversed(rows)])
    with pytest.raises(ArmadaError, match="all 30 training rows are also evaluated on; give other rows for train, or"):
        load_splits(new_card("data").card)


def test_a_folder_named_as_a_table_is_one_table_also_as_data_files():
    Path("p.parquet").mkdir()
    for part in range(2):
        table = pa.table({"text": [f"{part} {i}" for i in range(60)], "label": [i % 2 for i in range(60)]})
        parquet.write_table(table, f"p.parquet/part-{part}.parquet")
    made = new_card("p.parquet")
    assert made.card.name == "p"
    splits = load_splits(made.card)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 120
    assert 80 < len(load_splits(made.card, Path("p.parquet")).train) < 120
    Path("p.parquet/part-0.parquet").rename("p.parquet/train.parquet")
    Path("p.parquet/part-1.parquet").rename("p.parquet/test.parquet")
    assert len(load_splits(new_card("p.parquet").card).test) == 60


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("mien.csv", r"no such file or folder; did you mean mine.csv\?"),
        ("empty", "expected train.jsonl, .parquet or .csv, found nothing"),
        ("card.yaml", "expected rows, found a card; it is named by --task card.yaml"),
        ("rows.xlsx", "expected rows in a file ending in .jsonl, .parquet, .csv, or in a folder"),
        ("hf:imdb", "expected OWNER/NAME of the hub"),
        ("hf:owner/name", "cannot be loaded"),
        ("", "no such file or folder"),
        ("header.csv", "column 'label': expected labels, found none in 0 rows"),
        ("blank.jsonl", "expected rows, found none"),
    ],
)
def test_rows_that_are_none_are_refused_in_words(rows, message):
    csv("mine.csv", "text,label", ["a,b"])
    csv("header.csv", "text,label", [])
    Path("empty").mkdir()
    for name in ("card.yaml", "rows.xlsx", "blank.jsonl"):
        Path(name).write_text("\n")
    with pytest.raises(ArmadaError, match=message):
        new_card(rows)


def test_a_card_that_is_written_is_the_card_that_was_made_wherever_it_stands():
    rows = csv(
        "mine.csv", "text,category", [f"text {i},{name}" for i, name in enumerate(["yes", "no", "1", "null"] * 20)]
    )
    made = new_card(rows).card
    for folder in (Path(), Path("deep/er"), Path.cwd() / "absolute"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "own-card.yaml").write_text(card_text(made, folder))
        read = find_task(folder / "own-card.yaml")
        assert read.model_dump(exclude={"source"}) == made.model_dump(exclude={"source"})
        assert load_splits(read).train == load_splits(made).train


@pytest.mark.parametrize("text", ["claim", "claim,reason"])
def test_prompts_of_columns_alone_are_those_that_a_card_of_them_has(text):
    odd = [" spaces ", "new\nline", "e\u0301", "{braces} {{twice}}", "a  b", "\u2028x\t"]
    rows = [
        {"claim": f"{odd[i % 6]}{i}{odd[i % 5]}", "reason": f"{odd[i % 4]} {i}", "label": "yn"[i % 2]}
        for i in range(60)
    ]
    path = jsonl("r.jsonl", rows)
    alone, trained = list(column_prompts(path, text)), training_prompts(new_card(path, text, "label").card)
    assert len(alone) == 60
    assert set(trained) < set(alone)
