"""Rows that the user gives: a folder is split as its card says, and a wrong path or file is the one that is blamed."""

import json

import pytest

from distill.cards.cards import load_card
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError
from tests.distill.tasks.test_splits import CARD, folder_of, pairs

HIDDEN = [(-1, "glue/rte"), (None, "glue/rte"), (-1.0, "glue/stsb"), ("", "glue/rte")]


@pytest.mark.parametrize(("hidden", "task"), HIDDEN)
def test_a_folder_as_the_hub_saves_it_is_tested_on_the_split_that_the_card_names(tmp_path, hidden, task):
    folder = folder_of(
        tmp_path,
        train=pairs(200),
        validation=pairs(9, sentence2="validation"),
        test=pairs(30, label=hidden, sentence2="test"),
    )
    splits = load_splits(load_card(task), folder)
    assert len(splits.test) == 9
    assert all(texts[1] == "validation" for texts in splits.test.texts)
    assert 8 <= len(splits.validation) <= 32
    assert all(texts[1] == "two" for texts in splits.validation.texts)
    assert splits.dropped == {}
    assert "no row of test.jsonl has a label: the test rows are those of validation.jsonl" in " ".join(splits.notes)


def test_a_folder_with_a_labelled_test_is_tested_on_it(tmp_path):
    folder = folder_of(tmp_path, train=pairs(20), validation=pairs(9, sentence2="v"), test=pairs(7, sentence2="t"))
    splits = load_splits(load_card("glue/rte"), folder)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 9, 7)


def test_the_genres_of_mnli_are_found_in_a_folder_by_their_names_on_the_hub(tmp_path):
    def rows(name, count, label=0):
        return [{"premise": f"{name} {i}", "hypothesis": "H", "label": label} for i in range(count)]

    names = {"train": 50, "validation_matched": 5, "validation_mismatched": 6}
    hidden = {f"test_{genre}": rows(genre, 9, -1) for genre in ("matched", "mismatched")}
    folder = folder_of(tmp_path, **{name: rows(name, count) for name, count in names.items()}, **hidden)
    splits = load_splits(load_card("glue/mnli"), folder)
    assert (len(splits.test), len(splits.also["mismatched"])) == (5, 6)


def test_no_test_result_is_said_loudly(tmp_path):
    splits = load_splits(
        load_card("glue/rte"), folder_of(tmp_path, train=pairs(30), test=pairs(5, label=-1, sentence2="t"))
    )
    assert len(splits.test) == 0
    assert "NO TEST RESULT: the test split has no row with a label" in splits.notes


def test_training_rows_that_are_evaluated_on_are_left_out_of_a_folder_too(tmp_path):
    folder = folder_of(tmp_path, train=pairs(30), validation=pairs(4), test=pairs(12)[8:])
    splits = load_splits(load_card("glue/rte"), folder)
    assert splits.held_out == 8
    assert len(splits.train) == 22
    assert "8 training rows are also evaluated on and are left out of training" in splits.notes


@pytest.mark.parametrize(("first", "second"), [("train.csv", "train.jsonl"), ("val.jsonl", "validation.jsonl")])
def test_two_files_for_one_split_are_refused(tmp_path, first, second):
    folder = folder_of(tmp_path, train=pairs(30), test=pairs(2))
    (folder / second).write_text((folder / "train.jsonl").read_text())
    (folder / first).write_text("sentence1,sentence2,label\na,b,1\n")
    with pytest.raises(ArmadaError, match=f"expected one file for the split .*{first}.*remove all but one|{second}"):
        load_splits(load_card("glue/rte"), folder)


def test_a_split_in_parts_as_the_hubs_client_writes_it_is_read_whole(tmp_path):
    folder = folder_of(tmp_path, test=pairs(2, sentence2="t"))
    for part in range(2):
        rows = pairs(40)[part * 20 : part * 20 + 20]
        (folder / f"train-0000{part}-of-00002.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load_splits(load_card("glue/rte"), folder)
    assert len(splits.train) + len(splits.validation) == 40


def test_a_split_by_percentages_holds_for_a_folder_with_training_rows_alone(tmp_path):
    rows = [{"text": f"text {i}", "sentiment": "neutral"} for i in range(400)]
    splits = load_splits(CARD, folder_of(tmp_path, train=rows))
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 400
    assert 15 < len(splits.test) < 70 > len(splits.validation) > 15


@pytest.mark.parametrize("name", ["rows.jsonl", "folder", "rows.txt"])
@pytest.mark.parametrize("task", ["glue/rte", "demo/sentiment", "world/colour"])
def test_a_mistyped_path_is_blamed_and_not_the_hub(tmp_path, name, task):
    with pytest.raises(ArmadaError, match=f"--data-files: no such file or folder: .*{name}"):
        load_splits(load_card(task), tmp_path / name)


def test_a_wrong_file_is_blamed_before_the_hub_is_asked(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"sentence1": "a", "label": 1}')
    with pytest.raises(ArmadaError, match=r"rows.jsonl: row 1: expected column 'sentence2', found sentence1, label"):
        load_splits(load_card("glue/rte"), tmp_path / "rows.jsonl")


def test_a_card_of_a_repository_says_which_files_of_it_are_needed():
    with pytest.raises(
        ArmadaError, match=r"world/colour: .* columns object, label .*/nala-cub/coda/tree/.* --data-files"
    ):
        load_splits(load_card("world/colour"))


HALF = "a\ud800"  # half of a pair of UTF-16; JSON can write it alone
HALVES = {
    "reasoning/arc-easy": ("choices", {"choices": {"text": [HALF, "b"], "label": ["A", "B"]}, "answerKey": "A"}),
    "world/emotions": ("labels", {"labels": ["joy", HALF]}),
    "instruction/dolly": ("response", {"context": "", "response": HALF}),
    "superglue/wsc": ("target", {"label": 1, "target": {"span1_text": HALF, "span1_index": 0}}),
}


@pytest.mark.parametrize("task", HALVES)
def test_half_a_character_anywhere_in_a_row_is_an_error_that_names_the_row(task, tmp_path):
    """It could be read, but neither hashed nor written."""
    card, (column, row) = load_card(task), HALVES[task]
    for name in ("train", "test", "validation"):
        rows = [{next(iter(card.columns)): f"text {number}", **row} for number in range(9)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(ArmadaError, match=rf"jsonl: row 1, column '{column}': expected a text, found a lone surrogate"):
        load_splits(card, tmp_path)
