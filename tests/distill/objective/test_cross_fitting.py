"""Cross-fitted aligners: no row is taught its own label, and what they say is made once and kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.dataset.join import Coverage, View
from distill.objective import crossfit_store
from distill.objective.cross_fitting import as_float, out_of_fold_logits
from distill.objective.crossfit_store import crossfit_targets
from distill.objective.folds import folds_of
from distill.settings import AlignerSettings, TrainSettings
from tests.distill.tiny import split

ROWS, WIDTH, CPU = split(80), 6, torch.device("cpu")
FEATURES = np.random.Generator(np.random.PCG64(1)).normal(size=(80, WIDTH)).astype(np.float32)
FOLDS = folds_of(ROWS, 4)
ALIGNER = AlignerSettings(width=32, batch_size=8, lr=3e-3)
SETTINGS = TrainSettings(objective="crossfit", components=4, folds=4)


def logits_of(labels, classes=2, epochs=2, folds=FOLDS, features=FEATURES):
    labels = torch.tensor(labels)
    found = out_of_fold_logits(features, as_float, WIDTH, labels, folds, classes, epochs, ALIGNER, 0, "key")
    return [(logits.clone(), losses.clone()) for logits, losses in found]


def test_what_a_row_is_taught_does_not_depend_on_any_label_of_its_fold():
    labels = (FEATURES[:, 0] > 0).astype(int)
    changed = np.where(FOLDS == 2, 1 - labels, labels)
    before, after = logits_of(labels.tolist())[-1][0], logits_of(changed.tolist())[-1][0]
    assert torch.equal(before[FOLDS == 2], after[FOLDS == 2])
    assert not torch.equal(before[FOLDS != 2], after[FOLDS != 2])


def test_random_labels_are_memorised_with_one_fold_and_not_out_of_fold():
    labels = np.random.Generator(np.random.PCG64(3)).integers(0, 2, 80)

    def accuracy(folds):
        logits = logits_of(labels.tolist(), epochs=60, folds=folds)[-1][0]
        return float((logits.argmax(1).numpy() == labels).mean())

    assert accuracy(np.zeros(80, np.int64)) > 0.9
    assert accuracy(FOLDS) < 0.65


def test_a_regression_is_predicted_out_of_fold():
    values = FEATURES @ np.arange(WIDTH, dtype=np.float32) / 8
    losses = [float(losses.mean()) for _, losses in logits_of(values.tolist(), classes=1, epochs=40)]
    assert losses[-1] < 0.3 * float(np.var(values))


def test_each_epoch_is_the_same_whatever_comes_after_it_and_global_generators_stay():
    labels = (FEATURES[:, 0] > 0).astype(int).tolist()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    short, long = logits_of(labels, epochs=1), logits_of(labels, epochs=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(short[0][0], long[0][0])


def view_of(digest="digest", labels=None):
    rows = replace(ROWS, labels=labels or [row % 2 for row in range(80)])
    return View(rows, FEATURES, digest, Coverage(80, 80, 0, 0, (), {}), np.arange(80))


def targets_of(folder, view=None, settings=SETTINGS, aligner=ALIGNER, epochs=2, labels=None):
    view = view or view_of()
    return crossfit_targets(folder, view, labels or view.split.labels, 2, epochs, settings, aligner, CPU)


def test_aligners_and_whitening_are_kept_and_read_by_every_later_run(tmp_path, monkeypatch):
    first = targets_of(tmp_path)
    monkeypatch.setattr(crossfit_store, "out_of_fold_logits", None)  # a call would fail
    monkeypatch.setattr(crossfit_store, "fit_whitening", None)
    for other in (SETTINGS, replace(SETTINGS, alpha=0.1, lr=1.0, temperature=2.0, balance="none")):
        again = targets_of(tmp_path, settings=other)
        assert torch.equal(first.logits, again.logits)
        assert torch.equal(first.whitening.basis, again.whitening.basis)
    assert targets_of(tmp_path, aligner=replace(ALIGNER, rotation="adamw")).out_of_fold == first.out_of_fold


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": replace(SETTINGS, folds=3)},
        {"settings": replace(SETTINGS, components=3)},
        {"settings": replace(SETTINGS, power=1.0)},
        {"settings": replace(SETTINGS, seed=1)},
        {"aligner": replace(ALIGNER, width=16)},
        {"view": view_of("another")},
        {"labels": [1] * 80},
    ],
    ids=["folds", "components", "power", "seed", "aligner", "view", "labels"],
)
def test_whatever_decides_the_aligners_is_in_their_key(tmp_path, changed):
    targets_of(tmp_path)
    folders = set(tmp_path.iterdir())
    targets_of(tmp_path, **changed)
    assert len(set(tmp_path.iterdir()) - folders) in (1, 2)


def test_the_epoch_of_the_smallest_loss_out_of_fold_teaches(tmp_path):
    targets = targets_of(tmp_path, epochs=12, aligner=replace(ALIGNER, lr=0.03))
    best = targets.out_of_fold["epoch"]
    assert best < 11, "labels that features don't tell are only memorised later"
    assert torch.equal(targets.logits, targets_of(tmp_path, epochs=best + 1, aligner=replace(ALIGNER, lr=0.03)).logits)
    assert targets.out_of_fold["folds"] == 4
