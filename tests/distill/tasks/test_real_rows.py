"""The cards on real rows, whole sets as their publishers give them, and on SuperGLUE's official files.

The real rows are read where they are beside a checkout of the project, in ../shared/data.
"""

from pathlib import Path

import pytest

from distill.cards.cards import load_card
from distill.tasks.splits import load_splits
from tests.distill.tasks.test_splits import folder_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
# The folder, the questions of its train, validation and test file, and training rows that repeat another one.
REAL = {
    "world/colour": ("coda-colour", 386, 0, 140),
    "world/colour-share": ("coda-share", 4246, 0, 1540),
    "world/size": ("verbphysics-size", 1770, 0, 782),
    "world/weight": ("verbphysics-weight", 1811, 0, 775),
    "world/speed": ("verbphysics-speed", 1521, 0, 663),
    "world/statements": ("comve", 10_000, 1000, 1000),
    "world/statement": ("comve-statement", 19_990, 2000, 2000),
    "world/counting": ("numersense", 10_444, 0, 200),
    "world/captions": ("snli-counterfactual", 8330, 1000, 2000),
    "world/grammar": ("blimp", 2820, 0, 1200),
    "reasoning/gsm8k": ("gsm8k", 7473, 0, 1319),
    "reasoning/hellaswag": ("hellaswag", 699, 0, 301),
    "reasoning/openbookqa": ("openbookqa", 4957, 500, 500),
}


@pytest.mark.parametrize("name", REAL)
def test_a_card_reads_real_rows_with_the_published_counts(name):
    folder, train, validation, test = REAL[name]
    if not DATA.is_dir():
        pytest.skip("no real rows at ../shared/data")
    card = load_card(name)
    splits = load_splits(card, DATA / folder)
    assert len(splits.test.questions) == test
    if validation:
        assert len(splits.validation.questions) == validation
    used = len(splits.train.questions) + (0 if validation else len(splits.validation.questions))
    choices = len(splits.train) / len(splits.train.questions)
    gone = splits.dropped.get("merged", 0) + splits.dropped.get("one choice", 0)
    assert used + gone + round(splits.held_out / choices) == train
    for split in (splits.train, splits.validation, splits.test):
        if split.groups:
            assert all(sum(split.labels[row] for row in question) == 1 for question in split.questions)
    if name == "reasoning/gsm8k":
        assert all("####" in answer for answers in splits.train.labels for answer in answers)
    if name == "reasoning/hellaswag":
        assert not any(
            tag in " ".join(texts) for texts in splits.test.texts for tag in ("[title]", "[step]", "[header]")
        )


OFFICIAL = {
    "superglue/boolq": ({"question": "is it", "passage": "It is.", "idx": 3, "label": True}, "passage", 1),
    "superglue/cb": ({"premise": "P.", "hypothesis": "H", "label": "neutral", "idx": 3}, "premise", 2),
    "superglue/copa": (
        {"premise": "It fell.", "choice1": "Wind.", "choice2": "Tea.", "question": "cause", "label": 0, "idx": 3},
        "premise",
        {0, 1},
    ),
    "superglue/wic": (
        {
            "word": "place",
            "sentence1": "A place.",
            "sentence2": "Place it.",
            "idx": 3,
            "label": False,
            "start1": 2,
            "start2": 0,
            "end1": 7,
            "end2": 5,
            "version": 1.1,
        },
        "sentence1",
        0,
    ),
    "superglue/wsc": (
        {
            "text": "Ann told Eve that she won",
            "idx": 3,
            "label": False,
            "target": {"span1_index": 0, "span1_text": "Ann", "span2_index": 4, "span2_text": "she"},
        },
        "text",
        0,
    ),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_files_of_superglue_are_read_as_they_are(name, tmp_path):
    """Booleans, nested fields, val.jsonl, and a test.jsonl whose rows have no label at all."""
    row, text, label = OFFICIAL[name]

    def rows(split, count):
        return [{**row, text: f"{row[text]} {split} {number}"} for number in range(count)]

    hidden = [{key: value for key, value in one.items() if key != "label"} for one in rows("test", 50)]
    splits = load_splits(load_card(name), folder_of(tmp_path, train=rows("train", 60), val=rows("val", 7), test=hidden))
    assert len(splits.test.questions) == 7
    assert len(splits.train.questions) + len(splits.validation.questions) == 60
    assert set(splits.test.labels) == (label if isinstance(label, set) else {label})
    assert all(" val " in " ".join(texts) for texts in splits.test.texts)
    if name == "superglue/wsc":
        assert all(texts[0].startswith("*Ann* told Eve that #she# won") for texts in splits.test.texts)


def test_a_csv_with_class_numbers_or_true_and_false_is_read(tmp_path):
    for value in ("1", "1.0", "true", "positive"):
        (tmp_path / "train.csv").write_text(f"sentence,label\ntrain a good film,{value}\ntrain no label,\n")
        (tmp_path / "test.csv").write_text(f"sentence,label\ntest a good film,{value}\n")
        splits = load_splits(load_card("glue/sst2"), tmp_path)
        assert (splits.train.labels, splits.test.labels) == ([1], [1])
        assert splits.dropped == {"unlabelled": 1}
