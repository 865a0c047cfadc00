"""Rows are known by their text: order, duplicates and neighbours decide nothing."""

import json
import random

import pytest

from distill.cards import load_card
from distill.splits import load_splits
from teacher_cache import ArmadaError

CARD = load_card("demo/sentiment")


@pytest.fixture(scope="module")
def splits():
    return load_splits(CARD)


def write(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_real_texts_are_split_once_and_for_all(splits):
    sizes = [len(splits.train), len(splits.validation), len(splits.test)]
    assert sum(sizes) == 37_243
    assert sizes == [29_868, 3_635, 3_740]
    ids = [set(split.ids) for split in (splits.train, splits.validation, splits.test)]
    assert not ids[0] & ids[1]
    assert not (ids[0] | ids[1]) & ids[2]


def test_mojibake_is_cleaned_as_ftfy_does_it(splits):
    import ftfy

    texts = [text for split in (splits.train, splits.validation, splits.test) for (text,) in split.texts]
    assert all(ftfy.fix_text(text) == text for text in texts[::50])
    assert len(set(texts)) == len(texts)


def test_rows_in_another_order_are_the_same_rows(tmp_path):
    rows = [{"text": f"text {i}", "sentiment": CARD.labels[i % 3]} for i in range(50)]
    one = load_splits(CARD, write(tmp_path, rows)).train
    random.Random(0).shuffle(rows)
    two = load_splits(CARD, write(tmp_path, [*rows, *rows[:20]])).train
    assert one == two
    assert one.first(10).ids == sorted(one.ids)[:10]


def test_a_text_with_two_labels_takes_the_more_frequent_one(tmp_path):
    rows = [{"text": "so so", "sentiment": name} for name in ("positive", "neutral", "positive")]
    rows += [{"text": "tie", "sentiment": name} for name in ("positive", "negative")]
    train = load_splits(CARD, write(tmp_path, rows)).train
    assert dict(zip(train.prompts, train.labels, strict=True)) == {"so so": 2, "tie": 0}


def test_rows_that_are_evaluated_on_are_held_out_of_training(tmp_path, splits):
    rows = [{"text": splits.test.prompts[0], "sentiment": "neutral"}, {"text": "a new one", "sentiment": "neutral"}]
    loaded = load_splits(CARD, write(tmp_path, rows))
    assert (loaded.train.prompts, loaded.held_out) == (["a new one"], 1)
    assert loaded.test == splits.test


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "sentiment": "angry"}, "row 2, column 'sentiment': expected one of negative, neutral, positive"),
        ({"text": "a", "sentiment": 3}, "row 2, column 'sentiment': expected one of .* found 3"),
        ({"text": None, "sentiment": "neutral"}, "row 2, column 'text': expected a text, found None"),
        ({"text": "a"}, "row 2: expected column 'sentiment', found text"),
    ],
)
def test_a_wrong_row_names_file_row_and_column(tmp_path, row, message):
    with pytest.raises(ArmadaError, match=message):
        load_splits(CARD, write(tmp_path, [{"text": "fine", "sentiment": "neutral"}, row]))


def test_no_training_row_is_an_error(tmp_path):
    with pytest.raises(ArmadaError, match="expected at least one training row"):
        load_splits(CARD, write(tmp_path, [{"text": " ", "sentiment": "neutral"}]))
