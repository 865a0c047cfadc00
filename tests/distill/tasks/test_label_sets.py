"""A row of a multi-label task has any number of labels, in whatever way a table writes them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml
from sklearn import metrics

from distill.cards.cards import read_card
from distill.tasks.examples import UnlabelledError, examples_of
from distill.tasks.metrics import question_scores, score
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError

LABELS = ["anger", "joy", "love"]


def card_of(folder: Path, **changes):
    """Return a multi-label card whose labels are in the column `emotions`, or as `changes` say."""
    card = {
        "name": "own/emotions",
        "title": "Emotions",
        "type": "multi-label",
        "source": {"repository": "own", "revision": "1", "files": "rows", "licence": "own"},
        "text": ["{text}"],
        "prompt": "{text}",
        "label": "emotions",
        "labels": LABELS,
        "split": {"train": 80, "validation": 10, "test": 10},
        "metrics": ["micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision"],
    }
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**card, **changes}.items() if value is not None}))
    return read_card(path)


COLUMNS = {"label": None, "labels": None, "label_columns": LABELS}


@pytest.mark.parametrize(
    ("changes", "value", "expected"),
    [
        ({}, ["joy", "anger"], (0, 1)),
        ({}, ("love",), (2,)),
        ({}, [2, 0], (0, 2)),
        ({}, [1.0], (1,)),
        ({}, ["joy", "joy"], (1,)),
        ({}, [], ()),
        ({}, "", ()),
        ({}, " ", ()),
        ({}, "[]", ()),
        ({}, '["joy", "love"]', (1, 2)),
        ({}, "['joy', 'love']", (1, 2)),
        ({}, [0, 1, 1], (1, 2)),
        ({}, [0.0, 0.0, 0.0], ()),
        ({}, [True, False, False], (0,)),
        ({"separator": ";"}, "joy; love;", (1, 2)),
        ({"separator": ";"}, "anger", (0,)),
        ({"separator": ";"}, "", ()),
        ({"separator": ";"}, ["joy"], (1,)),
        ({"labels": ["1", "2", "3"], "separator": " "}, "3 1", (0, 2)),
        (COLUMNS, [0, 1, True], (1, 2)),
        (COLUMNS, ["0", "1.0", "false"], (1,)),
        (COLUMNS, [0, 0, 0], ()),
    ],
)
def test_labels_are_read_in_whatever_way_a_table_writes_them(tmp_path, changes, value, expected):
    card = card_of(tmp_path, **changes)
    answers = dict(zip(LABELS, value, strict=True)) if changes is COLUMNS else {"emotions": value}
    assert examples_of(card, {"text": "a plane", **answers}, str)[0].label == expected


@pytest.mark.parametrize("value", [None, float("nan"), "nan", -1, "-1"])
def test_a_hidden_label_is_not_a_row_without_labels(tmp_path, value):
    with pytest.raises(UnlabelledError):
        examples_of(card_of(tmp_path), {"text": "a plane", "emotions": value}, str)
    with pytest.raises(UnlabelledError):
        examples_of(card_of(tmp_path, **COLUMNS), {"text": "a plane", **dict.fromkeys(LABELS, value)}, str)


@pytest.mark.parametrize(
    ("changes", "value", "message"),
    [
        ({}, ["joy", "jyo"], "column 'emotions': expected one of anger, joy, love, found 'jyo'"),
        ({}, [7], "expected one of anger, joy, love, found 7"),
        ({}, [None], "expected one of anger, joy, love, found None"),
        ({}, "joy", "column 'emotions': expected a list of labels, or a text of labels whose `separator`"),
        ({}, "[joy", "expected a list of labels"),
        ({}, {"joy": 1}, "expected a list of labels"),
        ({}, 3, "expected a list of labels"),
        ({"separator": ","}, "joy,hate", "expected one of anger, joy, love, found 'hate'"),
        ({"labels": ["no", "yes"]}, [0, 1], "may be the ids of two labels, or 0 or 1 for each"),
        (COLUMNS, [0, 2, 1], "column 'joy': expected 0 or 1, found 2"),
        (COLUMNS, [0, None, 1], "column 'joy': expected 0 or 1, found None"),
        (COLUMNS, [0, "yes", 1], "column 'joy': expected 0 or 1, found 'yes'"),
    ],
)
def test_what_is_no_label_of_the_card_is_an_error_that_names_the_column(tmp_path, changes, value, message):
    card = card_of(tmp_path, **changes)
    answers = dict(zip(LABELS, value, strict=True)) if changes is COLUMNS else {"emotions": value}
    with pytest.raises(ArmadaError, match=message):
        examples_of(card, {"text": "a plane", **answers}, str)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels: expected the classes of a multi-label task"),
        ({"label_columns": LABELS}, "label: expected either label or label_columns, found both"),
        ({"label": None}, "label: expected either label or label_columns, found none"),
        ({"labels": ["joy", "joy"]}, "labels: expected each class once"),
        ({"separator": "o"}, "separator: expected a text that is in no label, found 'o' in 'joy'"),
        ({**COLUMNS, "labels": ["a", "b"]}, "labels: expected a name for each of 3 columns, found 2"),
        ({**COLUMNS, "separator": ","}, "separator: expected beside label"),
        ({"type": "classification", "separator": ",", "metrics": ["accuracy"]}, "separator: expected of a multi-label"),
        ({"metrics": ["accuracy"]}, "metrics: expected some of micro_f1, macro_f1, subset_accuracy"),
    ],
)
def test_a_card_that_contradicts_itself_names_the_key(tmp_path, changes, message):
    with pytest.raises(ArmadaError, match=message):
        card_of(tmp_path, **changes)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "columns.csv"])
def test_rows_of_every_kind_of_file_are_the_same_rows(tmp_path, kind):
    """A row without labels is a row. Training rows of one text are merged by a vote on the whole set of labels."""
    card = card_of(tmp_path, **(COLUMNS if kind.startswith("columns") else {}))
    rows = [("one", ["joy", "love"]), ("two", []), ("three", ["anger"]), ("one", ["love", "joy"]), ("one", ["joy"])]
    for name in ("train", "test"):
        told = [(f"{name} {text}", labels) for text, labels in rows]
        path = tmp_path / f"{name}.{kind.rpartition('.')[2]}"
        if kind == "jsonl":
            path.write_text("".join(json.dumps({"text": text, "emotions": labels}) + "\n" for text, labels in told))
        elif kind == "parquet":
            parquet.write_table(pa.table({"text": [t for t, _ in told], "emotions": [e for _, e in told]}), path)
        elif kind == "csv":
            lines = [f'{text},"{labels!r}"' if labels else f"{text}," for text, labels in told]
            path.write_text("\n".join(["text,emotions", *lines]))
        else:
            lines = [",".join([text, *(str(int(name in labels)) for name in LABELS)]) for text, labels in told]
            path.write_text("\n".join([",".join(["text", *LABELS]), *lines]))
    splits = load_splits(card, tmp_path)
    assert {texts[0]: label for texts, label in zip(splits.train.texts, splits.train.labels, strict=True)} == {
        "train one": (1, 2),
        "train two": (),
        "train three": (0,),
    }
    assert sorted(splits.test.labels) == [(), (0,), (1,), (1, 2), (1, 2)]
    assert splits.dropped == {"merged": 2, "outvoted": 1}


def test_a_file_in_which_no_row_has_a_label_hides_them(tmp_path):
    (tmp_path / "train.csv").write_text("text,emotions\none,['joy']\ntwo,\n")
    (tmp_path / "test.csv").write_text("text,emotions\nthree,\nfour,\n")
    splits = load_splits(card_of(tmp_path), tmp_path)
    assert (len(splits.train), len(splits.test)) == (2, 0)
    assert any("NO TEST RESULT" in note for note in splits.notes)


def test_metrics_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(60, 5))
    wanted = generator.random((60, 5)) < 0.3
    wanted[:, 4], logits[:, 4] = False, -1  # a label that occurs nowhere says nothing
    wanted[:, 3] = False  # one that is predicted, always wrongly
    labels = [tuple(np.flatnonzero(row)) for row in wanted]
    predicted = logits > 0
    found = score(logits, labels, ["micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision"])
    seen = [0, 1, 2, 3]
    assert found == pytest.approx(
        {
            "micro_f1": metrics.f1_score(wanted, predicted, average="micro"),
            "macro_f1": metrics.f1_score(wanted[:, seen], predicted[:, seen], average="macro"),
            "subset_accuracy": metrics.accuracy_score(wanted, predicted),
            "mean_average_precision": metrics.average_precision_score(wanted[:, :3], logits[:, :3]),
        }
    )
    assert question_scores(logits, labels).mean() == pytest.approx(found["subset_accuracy"])


def test_a_student_that_predicts_nothing_for_rows_without_labels_has_finite_scores():
    found = score(np.full((3, 2), -1.0), [(), (), ()], ["micro_f1", "macro_f1", "mean_average_precision"])
    assert found == {"micro_f1": 0.0, "macro_f1": 0.0, "mean_average_precision": 0.0}
    assert score(np.ones((3, 2)), [(), (), ()], ["mean_average_precision"]) == {"mean_average_precision": 0.0}
