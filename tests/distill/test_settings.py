"""Settings can grow: a new neutral field changes no name, and records written before it stay valid."""

from dataclasses import asdict, field, fields, make_dataclass

import pytest

from distill.declared import check_settings
from distill.settings import (
    BASELINE,
    AlignerSettings,
    TrainSettings,
    changes,
    with_baseline,
)
from distill.training import checkpoints
from distill.training.checkpoints import refuse_another
from teacher_cache import ArmadaError, canonical_json


def grown(kind):
    """A settings class as a later release may have it: of the same name, with one more field."""
    return make_dataclass(kind.__name__, [("brand_new", float, field(default=0.5))], bases=(kind,), frozen=True)


@pytest.mark.parametrize("kind", [TrainSettings, AlignerSettings])
def test_a_new_field_with_a_neutral_default_changes_no_name(kind):
    before, after = kind(lr=0.5), grown(kind)(lr=0.5)
    assert changes(before) == changes(after) == {"lr": 0.5}
    assert canonical_json(changes(before)) == canonical_json(changes(after))
    assert changes(grown(kind)(lr=0.5, brand_new=0.25)) == {"lr": 0.5, "brand_new": 0.25}


@pytest.mark.parametrize("in_full", [True, False], ids=["older, in full", "reduced"])
def test_a_finished_run_is_not_refused_for_a_setting_that_came_later(monkeypatch, in_full):
    name, value = ("settings", TrainSettings(lr=0.5)), ("aligner", AlignerSettings(width=8))
    recorded = {part: asdict(found) if in_full else changes(found) for part, found in (name, value)}
    later = {part: grown(type(found)) for part, found in (name, value)}
    monkeypatch.setattr(checkpoints, "TrainSettings", later["settings"])
    monkeypatch.setattr(checkpoints, "AlignerSettings", later["aligner"])
    now = {"settings": changes(later["settings"](lr=0.5)), "aligner": changes(later["aligner"](width=8))}
    refuse_another(recorded, now, "run.json")
    now["settings"] = changes(later["settings"](lr=0.5, brand_new=0.1))
    with pytest.raises(ArmadaError, match=r"run.json: another run is here: settings.brand_new was 0.5, now 0.1"):
        refuse_another(recorded, now, "run.json")


def test_a_changed_default_still_names_another_run():
    cheaper = make_dataclass("TrainSettings", [("lr", float, field(default=1.0))], bases=(TrainSettings,), frozen=True)
    assert changes(cheaper()) == {"lr": 1.0}
    assert changes(cheaper(lr=BASELINE["TrainSettings"]["lr"])) == {}


def test_an_objective_that_was_not_named_is_read_as_the_one_that_all_runs_had():
    assert changes(TrainSettings()) == changes(TrainSettings(objective="armada")) == {}
    assert changes(TrainSettings(objective="crossfit")) == {"objective": "crossfit"}
    for recorded in ({}, {"objective": None}, {"objective": "armada"}):
        assert with_baseline(TrainSettings, recorded)["objective"] == "armada"


def test_the_baseline_is_frozen():
    """These values name every run that exists: a change of one makes all of them other runs."""
    for kind in (TrainSettings, AlignerSettings):
        assert set(BASELINE[kind.__name__]) <= {one.name for one in fields(kind)}
    found = with_baseline(TrainSettings, {})
    assert {name: found.pop(name) for name in BASELINE["TrainSettings"]} == {
        "manifold": "cosine", "alpha": 0.5, "beta": 1.0, "gamma": 1.0, "temperature": 5.0, "epochs": 3,
        "batch_size": 32, "accumulate": 1, "lr": 5e-5, "schedule": "linear", "weight_decay": 0.01, "warmup": 0.1,
        "clip_norm": 1.0, "dropout": 0.1, "max_length": 128, "max_steps": None, "by_length": True, "select": "last",
        "seed": 0, "objective": "armada",
    }  # fmt: skip
    came_later = {
        "warmup_steps": None, "no_decay": "none", "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8,
        "label_smoothing": 0.0, "class_weights": None, "early_stopping_patience": None,
        "folds": 5, "output_loss": "kl", "contrast": 0.1, "components": 64, "power": 0.5, "balance": "contrast",
    }  # fmt: skip
    assert {name: found[name] for name in came_later} == came_later


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": float("nan")}, "--lr: expected a finite number, found nan"),
        ({"temperature": float("inf")}, "--temperature: expected a finite number"),
        ({"alpha": -0.1}, "--alpha: expected at least 0, found -0.1"),
        ({"alpha": 1.5}, "--alpha: expected at most 1"),
        ({"beta": -1.0}, "--beta: expected at least 0"),
        ({"lr": 0.0}, "--lr: expected more than 0"),
        ({"epochs": 0}, "--epochs: expected at least 1"),
        ({"manifold": "flat"}, "--manifold: expected one of cosine, euclid, pointwise, relational, none, found 'flat'"),
        ({"seed": 10**20}, "--seed: expected at most"),
    ],
)
def test_a_value_out_of_bounds_is_named_by_its_flag(wrong, message):
    with pytest.raises(ArmadaError, match=message):
        check_settings(TrainSettings(**wrong))
