"""Rows are identified by their text: order, duplicates and other rows do not matter."""

import json
import random
import sys
from collections import Counter

import pytest

from distill.cards.cards import load_card
from distill.tasks.distinct_rows import read_distinct
from distill.tasks.raw_rows import file_rows
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError

CARD = load_card("demo/sentiment")


@pytest.fixture(scope="module")
def splits():
    return load_splits(CARD)


def write(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_split_of_the_real_texts_is_fixed(splits):
    sizes = [len(splits.train), len(splits.validation), len(splits.test)]
    assert sum(sizes) == 37_243
    assert sizes == [29_868, 3_635, 3_740]
    ids = [set(split.ids) for split in (splits.train, splits.validation, splits.test)]
    assert not ids[0] & ids[1]
    assert not (ids[0] | ids[1]) & ids[2]


def test_mojibake_is_repaired_by_ftfy(splits):
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
def test_the_error_for_a_wrong_row_names_file_row_and_column(tmp_path, row, message):
    with pytest.raises(ArmadaError, match=message):
        load_splits(CARD, write(tmp_path, [{"text": "fine", "sentiment": "neutral"}, row]))


def test_no_training_row_is_an_error(tmp_path):
    with pytest.raises(ArmadaError, match="expected at least one training row"):
        load_splits(CARD, write(tmp_path, [{"text": " ", "sentiment": "neutral"}]))


def folder_of(tmp_path, **splits):
    for name, rows in splits.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


def pairs(count, **more):
    return [{"sentence1": f"one {i}", "sentence2": "two", "label": i % 2, **more} for i in range(count)]


def test_a_folder_of_files_replaces_the_source_and_validation_is_cut_from_train(tmp_path):
    splits = load_splits(load_card("glue/rte"), folder_of(tmp_path, train=pairs(200), test=pairs(7, sentence2="three")))
    assert len(splits.train) + len(splits.validation) == 200
    assert 8 <= len(splits.validation) <= 32
    assert not set(splits.train.ids) & set(splits.validation.ids)
    assert len(splits.test) == 7


def test_a_folder_without_a_test_is_an_error(tmp_path):
    with pytest.raises(ArmadaError, match=r"expected test.jsonl, .parquet or .csv, found train.jsonl"):
        load_splits(load_card("glue/rte"), folder_of(tmp_path, train=pairs(3)))


def test_rows_whose_label_is_hidden_or_whose_text_is_empty_are_left_out_and_counted(tmp_path):
    rows = [*pairs(20), *pairs(3, label=-1, sentence2="hidden"), {"sentence1": " ", "sentence2": "", "label": 0}]
    splits = load_splits(load_card("glue/rte"), folder_of(tmp_path, train=rows, test=pairs(2, sentence2="three")))
    assert splits.dropped == {"unlabelled": 3, "empty": 1}
    assert len(splits.train) + len(splits.validation) == 20


def test_the_choices_of_a_question_stay_in_one_split_with_one_right_each(tmp_path):
    rows = [{"goal": f"goal {i}", "sol1": "this", "sol2": "that", "label": i % 2} for i in range(100)]
    splits = load_splits(load_card("reasoning/piqa"), folder_of(tmp_path, train=rows, test=rows[:5]))
    assert len(splits.train) + len(splits.validation) == 190
    assert splits.held_out == 10
    for split in (splits.train, splits.validation, splits.test):
        by_group = {}
        for group, label in zip(split.groups, split.labels, strict=True):
            by_group.setdefault(group, []).append(label)
        assert all(sorted(labels) == [0, 1] for labels in by_group.values())
    assert not set(splits.train.groups) & set(splits.validation.groups)


@pytest.mark.parametrize(("label", "found"), [("high", "'high'"), (float("inf"), "inf"), (True, "True")])
def test_a_score_that_is_no_finite_number_is_an_error(tmp_path, label, found):
    folder = folder_of(tmp_path, train=pairs(2, label=label), test=pairs(2))
    with pytest.raises(ArmadaError, match=f"row 1, column 'label': expected a finite number, found {found}"):
        load_splits(load_card("glue/stsb"), folder)


def test_generated_word_problems_name_the_extra_that_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ArmadaError, match=r"pip install 'armada-distill\[word-problems\]' \(.* a C compiler"):
        load_splits(load_card("demo/word-problems"))


def test_generated_word_problems_are_the_same_every_time_and_split_by_their_text():
    pytest.importorskip("reasoning_gym", reason="pip install -e '.[word-problems]', with a C compiler")
    one, two = (load_splits(load_card("demo/word-problems")) for _ in range(2))
    assert one == two
    assert len(one.train) > 2000 > 200 < len(one.test)
    assert one.train.texts[0][0].startswith("Question: ")
    assert one.train.texts[0][0].endswith("\nAnswer:")
    assert one.train.labels[0][0].lstrip("-").replace(".", "").isdigit()


def test_an_empty_test_split_is_a_split_without_rows(tmp_path):
    splits = load_splits(load_card("glue/rte"), folder_of(tmp_path, train=pairs(30), test=[]))
    assert len(splits.test) == 0
    assert len(splits.train) > 0


def test_minus_one_is_a_valid_answer_to_a_word_problem(tmp_path):
    rows = [{"question": f"{i} minus {i + 1}?", "answer": "-1"} for i in range(5)]
    splits = load_splits(load_card("demo/word-problems"), folder_of(tmp_path, train=rows, test=rows[:1]))
    assert splits.dropped == {}
    assert {answers for split in (splits.train, splits.validation) for answers in split.labels} == {("-1",)}


def choices(right, first="He sits.", second="He runs."):
    return {"statement1": first, "statement2": second, "label": right}


def test_a_question_that_annotators_disagree_on_keeps_one_right_answer(tmp_path):
    """On a tie the first choice is right; the same question with its choices in another order is the same question."""
    card = load_card("world/statements")
    for rows, right in (
        ([choices("1"), choices("2")], "He sits."),
        ([choices("2"), choices("1"), choices("2")], "He runs."),
        ([choices("2"), choices("1", "He runs.", "He sits."), choices("1")], "He runs."),
    ):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        rows_read = read_distinct(card, file_rows(card, path), Counter())
        assert [row.texts[0] for row in rows_read if row.label] == [right]
        assert len({row.question for row in rows_read}) == 1


def test_rows_that_are_merged_by_a_vote_are_counted_and_said(tmp_path):
    rows = [*pairs(30), *pairs(4), {**pairs(1)[0], "label": 1}]
    splits = load_splits(load_card("glue/rte"), folder_of(tmp_path, train=rows, test=pairs(3, sentence2="three")))
    assert splits.dropped == {"merged": 5, "outvoted": 1}
    assert any(note.startswith("5 rows have the text of another one") for note in splits.notes)
    assert any(note.startswith("1 of these had another label") for note in splits.notes)


def test_questions_whose_choices_are_all_equal_teach_nothing_and_are_left_out_of_training_only(tmp_path):
    rows = [choices("1", f"a {i}", f"b {i}") for i in range(20)]
    same = choices("2", "He sits.", "He sits. ")
    splits = load_splits(load_card("world/statements"), folder_of(tmp_path, train=[*rows, same], test=[same]))
    assert len(splits.train.questions) + len(splits.validation.questions) == 20
    assert splits.dropped == {"one choice": 1}
    assert len(splits.test.questions) == 1


@pytest.mark.parametrize(
    ("task", "row", "published"),
    [
        ("glue/cola", {"sentence": "They sleep.", "label": 1}, 1_043),
        ("glue/stsb", {"sentence1": "One.", "sentence2": "Two.", "label": 3.8}, 1_500),
        (
            "superglue/copa",
            {"premise": "It fell.", "choice1": "Wind.", "choice2": "Tea.", "question": "cause", "label": 0},
            500,
        ),
    ],
)
def test_test_rows_are_never_merged_so_that_a_test_has_its_published_size(tmp_path, task, row, published):
    """A tenth of the rows repeat others; two have another label than the row that they repeat."""
    text = next(iter(row))
    rows = [{**row, text: f"{row[text]} {number % (published * 9 // 10)}"} for number in range(published)]
    for place in (-1, -2):
        rows[place] = {**rows[place], "label": 0.5 if task == "glue/stsb" else 1 - row["label"]}
    train = [{**row, text: f"train {number}"} for number in range(20)]
    splits = load_splits(load_card(task), folder_of(tmp_path, train=train, test=rows))
    assert len(splits.test.questions) == published
    if splits.test.groups:
        assert all(sum(splits.test.labels[row] for row in question) == 1 for question in splits.test.questions)
    else:
        assert sorted(splits.test.labels) == sorted(one["label"] for one in rows)
    assert "merged" not in splits.dropped


def test_first_takes_whole_questions(tmp_path):
    rows = [choices("1", f"a {i}", f"b {i}") for i in range(50)]
    train = load_splits(load_card("world/statements"), folder_of(tmp_path, train=rows, test=[choices("1")])).train
    some = train.first(7)
    assert (len(some), len(some.questions), sum(some.labels)) == (14, 7, 7)
    assert train.take_questions([3, 0]).ids == sorted(train.take_questions([0, 3]).ids)
