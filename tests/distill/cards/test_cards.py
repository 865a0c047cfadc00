"""Task cards: every card loads, and an error in a card names the file, the key and what was expected."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from distill.cards.card_schema import HashSplit, HubSource, RepositorySource
from distill.cards.cards import FOLDERS, card_names, load_card, read_card
from distill.tasks.examples import examples_of
from distill.tasks.splits import load_splits
from teacher_cache import ArmadaError
from tests.distill.hub_rows import HUB

GOOD = yaml.safe_load((FOLDERS[1] / "demo" / "sentiment.yaml").read_text())


def write(tmp_path, change):
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **change}))
    return path


def test_every_card_loads_under_its_own_name():
    assert len(card_names()) == 42
    for name in card_names():
        assert load_card(name).name == name


def test_every_card_with_a_hub_dataset_has_a_sample_row():
    assert set(HUB) == {name for name in card_names() if not name.startswith("demo/")}


@pytest.mark.parametrize("name", HUB)
def test_a_row_in_the_hubs_columns_becomes_what_the_student_reads(name):
    row, expected = HUB[name]
    card = load_card(name)
    assert set(card.columns) <= set(row)
    examples = examples_of(card, row, str)
    assert [(example.texts, example.label) for example in examples] == expected
    for example in examples:
        words = set(" ".join(example.texts).split())
        assert set(example.prompt.split()) <= words, "the teacher reads what the student doesn't"


@pytest.mark.parametrize("name", HUB)
def test_a_card_loads_by_datasets_from_a_folder_in_the_hubs_columns(name, tmp_path, monkeypatch):
    """A local folder replaces the hub; `datasets` is called in the same way with the same splits."""
    import distill.tasks.splits

    def local(task):
        row, card = HUB[task][0], load_card(task)
        names = {"train", "test"} if isinstance(card.split, HashSplit) else {card.split.train, card.split.test}
        folder = tmp_path / task
        folder.mkdir(parents=True)
        for split in {*names, *card.reported.values()} - {None}:
            table = pa.Table.from_pylist([_numbered(card, row, f"{split} {number}") for number in range(40)])
            parquet.write_table(table, folder / f"{split}.parquet")
        splits = {path.stem: [path.name] for path in folder.iterdir()}
        return card.model_copy(update={"source": HubSource(hub=str(folder), data_files=splits, licence="none")})

    monkeypatch.setattr(distill.tasks.splits, "load_card", local)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    splits = load_splits(local(name))
    assert len(splits.train) > 0
    assert set(splits.also) == set(load_card(name).reported)
    assert splits.dropped == {}


def _numbered(card, row, number):
    """Return the row with its split and number in the first text of the card, so that rows differ."""
    column = next(name for name in card.columns if isinstance(row[name], str))
    return {**row, column: f"{row[column]} {number}"}


def test_the_error_for_a_wrong_table_names_its_columns(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"sentence": "a", "label": 1}')
    (tmp_path / "test.jsonl").write_text('{"sentence": "a", "label": 1}')
    with pytest.raises(ArmadaError, match=r"train.jsonl: row 1: expected column 'sentence1', found sentence, label"):
        load_splits(load_card("glue/mrpc"), tmp_path)


def test_the_error_for_an_unreachable_hub_gives_the_next_step():
    with pytest.raises(ArmadaError, match=r"nyu-mll/glue \(rte\), split validation: cannot be loaded .* --data-files"):
        load_splits(load_card("glue/rte"))


def test_a_card_without_a_package_or_a_hub_says_what_to_download_and_how_it_becomes_rows():
    for name in card_names():
        card = load_card(name)
        if isinstance(card.source, RepositorySource):
            with pytest.raises(ArmadaError, match="--data-files") as caught:
                load_splits(card)
            assert f"https://github.com/{card.source.repository}/tree/{card.source.revision} (" in str(caught.value)
            assert all(column in card.source.rows for column in card.columns)


def test_the_error_for_an_unknown_task_names_the_nearest_one():
    with pytest.raises(ArmadaError, match=r"no task 'demo/sentiments'; did you mean demo/sentiment\?"):
        load_card("demo/sentiments")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "{text} {confidence}"}, r"prompt: expected exactly the fields \['text'\], found"),
        ({"prompt": "a picture"}, r"prompt: expected exactly the fields \['text'\], found \[\]"),
        ({"split": {"train": 80, "validation": 10, "test": 20}}, "expected percentages that add up to 100, found 110"),
        ({"labels": ["one"]}, "labels: expected at least 2 items after validation, not 1, found"),
        ({"type": "poetry"}, "type: expected 'classification', .*found 'poetry'"),
        ({"type": "regression"}, "labels: expected none of a regression task"),
        ({"labels": None}, "labels: expected the classes of a classification task"),
        ({"type": "choice", "labels": None}, "choices: expected for a choice task and for no other"),
        ({"text": ["{text} {choice}"], "prompt": "{text} {choice}"}, r"text: expected {choice} in the templates of"),
        ({"text": ["text"]}, "text: expected a template with a column in braces, found 'text'"),
        ({"metrics": ["f1"]}, "metrics: f1 is that of class 1 of two, found 3; use macro_f1"),
        ({"replace": {"txt": [["a", "b"]]}}, r"replace: expected fields of text \(text\), found \['txt'\]"),
        ({"replace": {"text": [["(", ""]]}}, "replace.*expected a regular expression, found '\\('"),
        ({"without": {"column": "text", "text": ["{text}"], "prompt": "{x}"}}, "without.prompt: expected exactly"),
        ({"metrics": ["pearson"]}, "metrics: expected some of accuracy, f1, macro_f1, mcc, found pearson"),
        ({"source": {"url": "x"}}, "source: expected one of the keys package, hub, generator, repository and data"),
        ({"source": {"hub": "a/b"}}, r"source\.licence: expected a value, found none"),
        ({"split": {"train": "train", "test": "test"}}, r"split\.validation: expected a value, found none"),
        ({"colour": "red"}, "colour: unknown key$"),
        ({"lables": ["a", "b"]}, r"lables: unknown key; did you mean labels\?"),
        (
            {"source": {"hub": "a/b", "licence": "x", "revison": "y"}},
            r"source\.revison: unknown key; did you mean revision\?",
        ),
        ({"metrics": ["accuracy", "bleu"]}, r"metrics\.1: expected 'accuracy', .*found 'bleu'"),
    ],
)
def test_the_error_for_a_wrong_card_names_file_key_and_expectation(tmp_path, change, message):
    path = write(tmp_path, change)
    with pytest.raises(ArmadaError, match=message) as caught:
        read_card(path)
    assert str(path) in str(caught.value)


def test_a_card_that_is_not_yaml_is_an_error(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text("name: [")
    with pytest.raises(ArmadaError, match="expected YAML"):
        read_card(path)
