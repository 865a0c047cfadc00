"""A card with an error says file, key and what was expected."""

import pytest
import yaml

from distill.cards import FOLDERS, card_names, load_card, read_card
from teacher_cache import ArmadaError

GOOD = yaml.safe_load((FOLDERS[1] / "demo" / "sentiment.yaml").read_text())


def write(tmp_path, change):
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **change}))
    return path


def test_every_card_loads_under_its_own_name():
    assert card_names()
    for name in card_names():
        assert load_card(name).name == name


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(ArmadaError, match="no task 'demo/sentiments'; known: demo/sentiment"):
        load_card("demo/sentiments")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "{text} {confidence}"}, r"prompt: expected exactly the fields \['text'\], found"),
        ({"prompt": "a picture"}, r"prompt: expected exactly the fields \['text'\], found \[\]"),
        ({"split": {"train": 80, "validation": 10, "test": 20}}, "expected percentages that add up to 100, found 110"),
        ({"labels": ["one"]}, "labels: List should have at least 2 items"),
        ({"type": "poetry"}, "type: Input should be 'classification' .*found 'poetry'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"metrics": ["accuracy", "bleu"]}, r"metrics.1: Input should be"),
    ],
)
def test_a_card_with_an_error_names_file_key_and_expectation(tmp_path, change, message):
    path = write(tmp_path, change)
    with pytest.raises(ArmadaError, match=message) as caught:
        read_card(path)
    assert str(path) in str(caught.value)


def test_a_card_that_is_no_yaml(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text("name: [")
    with pytest.raises(ArmadaError, match="no readable YAML"):
        read_card(path)
