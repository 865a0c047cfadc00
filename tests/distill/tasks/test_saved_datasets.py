"""Folders that `datasets` saved: a Dataset is split here, a DatasetDict keeps its splits, classes have their names."""

import json
from pathlib import Path

import pytest

from distill.cards.cards import load_card
from distill.tasks.new_card import new_card
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError

NAMES = ["zebra", "ant", "mole"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a folder with a saved Dataset, `one`, and a saved DatasetDict, `all`."""
    import datasets

    datasets.disable_progress_bars()
    folder = tmp_path_factory.mktemp("saved")

    def table(name, count, hidden=False):
        label = datasets.ClassLabel(names=NAMES)
        labels = [-1 if hidden else i % 3 for i in range(count)]
        rows = {
            "text": [f"{name} {i} {NAMES[i % 3]}" for i in range(count)],
            "label": labels,
            "picture": [b"x"] * count,
        }
        return datasets.Dataset.from_dict(rows).cast_column("label", label)

    table("one", 90).save_to_disk(folder / "one")
    parts = {"train": table("train", 60), "validation": table("dev", 20), "test": table("test", 9, hidden=True)}
    datasets.DatasetDict(parts).save_to_disk(folder / "all")
    return folder


def is_named(split):
    return all(text.endswith(NAMES[label]) for (text,), label in zip(split.texts, split.labels, strict=True))


def test_a_saved_dataset_is_one_table_whose_classes_have_the_names_of_the_data_set(saved):
    made = new_card(str(saved / "one"))
    assert made.card.labels == NAMES
    splits = load_splits(made.card)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 90
    assert is_named(splits.train)
    assert is_named(splits.test)


def test_the_splits_of_a_saved_dataset_dict_are_kept_and_hidden_labels_are_not_tested_on(saved):
    made = new_card(str(saved / "all"))
    assert made.said[-1] == "split: trained on train, tested on validation, validated on 10 % of train"
    splits = load_splits(made.card)
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (60, 20)
    assert is_named(splits.test)
    assert "no row of test has a label: the test rows are those of validation" in " ".join(splits.notes)


def test_a_saved_folder_is_data_of_a_card_with_other_names_by_its_numbers(saved):
    card = load_card("demo/sentiment").model_copy(update={"label": "label"})
    splits = load_splits(card, saved / "all")
    assert len(splits.train) == 60
    assert set(splits.train.labels) == {0, 1, 2}


def test_a_saved_folder_that_lacks_a_column_or_is_damaged_is_refused_in_words(saved, tmp_path):
    with pytest.raises(ArmadaError, match=r"one: expected column 'sentiment', found text, label, picture"):
        load_splits(load_card("demo/sentiment"), saved / "one")
    with pytest.raises(ArmadaError, match=r"no column 'txt'; found text, label, picture; did you mean text\?"):
        new_card(str(saved / "one"), "txt")
    for name, content in {"state.json": "{", "dataset_info.json": "{}"}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ArmadaError, match="no Dataset that can be read"):
        new_card(str(tmp_path))


@pytest.mark.parametrize(
    "content", ["[", "{}", '{"splits": 3}', "[" * 9999, json.dumps({"splits": ["../one", "train"]})]
)
def test_a_list_of_splits_leads_nowhere_else(saved, tmp_path, content):
    (tmp_path / "dict").mkdir()
    (tmp_path / "one").symlink_to(saved / "one")
    Path(tmp_path / "dict" / "dataset_dict.json").write_text(content)
    with pytest.raises(ArmadaError, match=r"expected the splits of a DatasetDict|expected train\.jsonl"):
        new_card(str(tmp_path / "dict"))
