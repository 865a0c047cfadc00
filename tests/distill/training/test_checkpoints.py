"""The weights of the best epoch are kept: the earliest of equals, whether or not the run was interrupted."""

import torch

from distill.training.checkpoints import BestEpoch


def model_of(value):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, value)
    model.bias.requires_grad_(False)
    return model


def test_the_earliest_of_equally_good_epochs_is_kept_and_loaded(tmp_path):
    best = BestEpoch(tmp_path, "key")
    for epoch, score in enumerate([0.5, 0.7, 0.7, 0.6]):
        best.offer(model_of(float(epoch)), epoch, score)
    assert BestEpoch(tmp_path, "key").kept() == (1, 0.7)
    model = model_of(9.0)
    best.load(model)
    assert model.weight.tolist() == [[1.0, 1.0]]
    assert model.weight.requires_grad


def test_an_epoch_that_is_offered_again_after_a_kill_changes_nothing(tmp_path):
    for _ in range(2):
        BestEpoch(tmp_path, "key").offer(model_of(3.0), 2, 0.25)
    assert BestEpoch(tmp_path, "key").kept() == (2, 0.25)


def test_another_run_has_its_own_best_epoch(tmp_path):
    BestEpoch(tmp_path, "one").offer(model_of(3.0), 0, 0.9)
    assert BestEpoch(tmp_path, "two").kept() is None
    BestEpoch(tmp_path, "one").remove()
    assert list(tmp_path.iterdir()) == []
