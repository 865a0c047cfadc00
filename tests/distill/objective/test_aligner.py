"""The training of the aligner is a pure function, and its states are kept and read again by every rerun."""

from dataclasses import asdict, field, make_dataclass

import pytest
import torch

from distill.dataset.join import join
from distill.objective.aligner import train_aligner
from distill.objective.aligner_store import aligner_states
from distill.objective.orthogonal import orthogonality_error
from distill.settings import AlignerSettings
from teacher_cache import build, choose, open_features
from tests import fakes
from tests.distill.tiny import split

SETTINGS = AlignerSettings(width=16, batch_size=8)
CPU = torch.device("cpu")


@pytest.fixture
def view(cache):
    rows = split(60)
    build(cache, rows.prompts, fakes.teacher(), fakes.encoder())
    return join(rows, cache, open_features(cache, *choose(cache, None, None)))


def train(view, epochs=2, seed=0, **changes):
    settings = AlignerSettings(**{"width": 16, "batch_size": 8, **changes})
    features, labels = torch.from_numpy(view.features), torch.tensor(view.split.labels)
    return train_aligner(features, labels, 3, epochs, settings, seed, view.digest)


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_training_is_replayed_whatever_ran_before_and_leaves_the_generator_alone(view):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one = train(view)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    two = train(view)
    assert all(equal(a, b) for a, b in zip(one, two, strict=True))


def test_each_epoch_has_its_own_state_and_more_epochs_do_not_change_the_first(view):
    short, long = train(view, epochs=1), train(view, epochs=3)
    assert equal(short[0], long[0])
    assert not equal(long[0], long[2])


@pytest.mark.parametrize("change", [{"seed": 1}, {"width": 12}, {"lr": 1e-2}, {"angle": 0.2}, {"gamma": 0.5}])
def test_each_setting_changes_the_states(view, change):
    one, two = train(view)[-1], train(view, **change)[-1]
    assert one["hidden1.weight"].shape != two["hidden1.weight"].shape or not equal(one, two)


def test_the_projection_stays_orthogonal(view):
    for state in train(view, epochs=3):
        assert orthogonality_error(state["projection.weight"]) < 1e-5


def test_it_learns_labels_that_the_features_determine(view):
    labels = torch.tensor([row % 3 for row in range(60)])
    features = torch.nn.functional.one_hot(labels, 8).float() + 0.1 * torch.randn(60, 8)
    from distill.objective.aligner import Aligner

    state = train_aligner(features, labels, 3, 30, AlignerSettings(width=16, batch_size=8), 0, "key")[-1]
    aligner = Aligner(8, 3, 16).eval()
    aligner.load_state_dict(state)
    outputs = aligner(features)
    assert (outputs.logits.argmax(1) == labels).float().mean() > 0.95
    assert (outputs.aux_logits.argmax(1) == labels).float().mean() > 0.95


def test_a_rerun_reads_the_kept_states(view, tmp_path, monkeypatch):
    first = aligner_states(tmp_path, view, 3, 2, SETTINGS, 0, CPU)
    monkeypatch.setattr("distill.objective.aligner_store.train_aligner", lambda *_: pytest.fail("trained twice"))
    again = aligner_states(tmp_path, view, 3, 2, SETTINGS, 0, CPU)
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(aligner_states(tmp_path, view, 3, 1, SETTINGS, 0, CPU)) == 1


def test_a_setting_added_later_finds_the_stored_aligner(view, tmp_path, monkeypatch):
    later = make_dataclass(
        "AlignerSettings", [("brand_new", int, field(default=0))], bases=(AlignerSettings,), frozen=True
    )
    first = aligner_states(tmp_path, view, 3, 1, SETTINGS, 0, CPU)
    monkeypatch.setattr("distill.objective.aligner_store.train_aligner", lambda *_: pytest.fail("trained twice"))
    again = aligner_states(tmp_path, view, 3, 1, later(**asdict(SETTINGS)), 0, CPU)
    assert equal(first[0], again[0])


def test_another_seed_or_another_view_has_its_own_aligner(view, tmp_path, cache):
    features = open_features(cache, *choose(cache, None, None))
    shuffled = join(view.split, cache, features, control="shuffled", seed=0)
    for which, seed in ((view, 0), (view, 1), (shuffled, 0)):
        aligner_states(tmp_path, which, 3, 1, SETTINGS, seed, CPU)
    assert len([folder for folder in tmp_path.iterdir() if list(folder.glob("epoch-*"))]) == 3


def test_a_kept_state_that_was_damaged_is_trained_again(view, tmp_path):
    first = aligner_states(tmp_path, view, 3, 2, SETTINGS, 0, CPU)
    file = sorted(tmp_path.rglob("epoch-0001-*"))[0]
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    again = aligner_states(tmp_path, view, 3, 2, SETTINGS, 0, CPU)
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_rotation_of_the_paper_stays_orthogonal_and_gives_other_states(view):
    ours, paper = train(view), train(view, rotation="adamw")
    assert set(paper[0]) == set(ours[0])
    assert all(orthogonality_error(state["projection.weight"]) < 1e-4 for state in paper)
    assert not equal(paper[0], ours[0])
    assert not torch.equal(paper[0]["projection.weight"], paper[1]["projection.weight"])
