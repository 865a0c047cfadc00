"""Several pictures per prompt: their mean, or one per epoch, joined with the same checks as a single one."""

import numpy as np
import pytest
import torch

from distill.dataset.join import join
from distill.dataset.loader import Loader
from distill.dataset.sampled_features import SampledFeatures
from distill.objective.aligner import train_aligner
from distill.objective.targets import EpochTargets, TeacherTargets
from distill.settings import AlignerSettings
from teacher_cache import BuildOptions, CoverageError, build, choose, open_features
from tests import fakes
from tests.distill.tiny import split

ROWS, K = split(24), 3
SETTINGS = AlignerSettings(width=16, batch_size=8)


@pytest.fixture
def features(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder(), BuildOptions(samples=K))
    return open_features(cache, *choose(cache, None, None))


def pictures_of(features):
    """Return the features (N, K, L) of the pictures of each row."""
    return np.stack([features.take(features.rows_of(ROWS.prompts, sample)) for sample in range(K)], 1)


def test_the_mean_feature_of_a_row_is_the_mean_over_its_own_pictures(cache, features):
    view = join(ROWS, cache, features, samples=K)
    expected = pictures_of(features).astype(np.float32).mean(1)
    np.testing.assert_array_equal(view.features, expected.astype(view.features.dtype))


def test_every_epoch_uses_one_of_the_pictures_of_a_row_and_the_choice_depends_on_the_seed(cache, features):
    view = join(ROWS, cache, features, samples=K, combine="draw", seed=0)
    assert view.features.shape == (24, 8)
    own = pictures_of(features)
    shown = []
    for epoch in range(6):
        taken = view.features.features[view.features.at(epoch)]
        number = (taken[:, None] == own).all(2)  # (N, K): true at the picture that was used
        assert (number.sum(1) == 1).all()
        shown.append(number.argmax(1))
    assert (np.bincount(np.concatenate(shown), minlength=K) > 24).all()  # 48 each on average
    assert any((shown[0] != later).any() for later in shown[1:])
    again = join(ROWS, cache, features, samples=K, combine="draw", seed=0).features
    assert np.array_equal(again.at(3), view.features.at(3))
    other = join(ROWS, cache, features, samples=K, combine="draw", seed=1).features
    assert (other.at(3) != view.features.at(3)).any()


def test_loader_targets_and_aligner_use_the_same_pictures(cache, features):
    view = join(ROWS, cache, features, samples=K, combine="draw")
    loader = Loader(view.features, view.digest, 5, lengths=np.arange(24))
    states = train_aligner(view.features, torch.tensor(ROWS.labels), 3, 2, SETTINGS, 0, view.digest)
    for epoch in range(2):
        epoch_targets = EpochTargets(TeacherTargets(view.features, states, 16), epoch, torch.device("cpu"))
        shown = torch.from_numpy(view.features.features[view.features.at(epoch)])
        seen = 0
        for batch in loader:
            assert torch.equal(batch.features, shown[torch.from_numpy(batch.rows)])
            outputs = epoch_targets.outputs(torch.from_numpy(batch.rows), batch.features)
            torch.testing.assert_close(outputs.logits, epoch_targets._aligner(batch.features.float()).logits)
            seen += len(batch.rows)
        assert seen == 24
    first = view.features.features[view.features.at(0)]
    plain = train_aligner(first, torch.tensor(ROWS.labels), 3, 2, SETTINGS, 0, view.digest)
    assert torch.equal(plain[0]["head.weight"], states[0]["head.weight"])
    assert not torch.equal(plain[1]["head.weight"], states[1]["head.weight"])  # the same pictures again


def test_a_resumed_loader_uses_the_same_pictures_as_an_uninterrupted_one(cache, features):
    view = join(ROWS, cache, features, samples=K, combine="draw")

    def batches(loader, epochs):
        return [batch.features.clone() for _ in range(epochs) for batch in loader]

    whole = batches(Loader(view.features, view.digest, 7), 3)
    stopped = Loader(view.features, view.digest, 7)
    first = []
    for batch in stopped:
        first.append(batch.features.clone())
        if len(first) == 2:
            break
    after = Loader(view.features, view.digest, 7)
    after.load_state_dict(stopped.state_dict())
    rest = first + batches(after, 3)
    assert len(rest) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(rest, whole, strict=True))


def test_a_row_without_one_of_its_pictures_stops_the_run_or_is_dropped(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder(), BuildOptions(samples=K, limit=20))
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder())  # the first picture of the last four
    features = open_features(cache, *choose(cache, None, None))
    with pytest.raises(CoverageError, match=r"20 of 24 training rows have features of 3 pictures(.|\n)*missing: 4"):
        join(ROWS, cache, features, samples=K)
    assert join(ROWS, cache, features, samples=K, drop_missing=True).features.shape == (20, 8)
    assert join(ROWS, cache, features).coverage.is_full


@pytest.mark.parametrize("combine", ["mean", "draw"])
def test_controls_keep_the_pictures_of_a_row_together(cache, features, combine):
    def table(control):
        view = join(ROWS, cache, features, samples=K, combine=combine, control=control)
        found = view.features.features if isinstance(view.features, SampledFeatures) else view.features
        return found.reshape(24, -1)  # all features of a row

    real, shuffled = table(None), table("shuffled")
    assert (real != shuffled).any()
    np.testing.assert_array_equal(real[np.lexsort(real.T)], shuffled[np.lexsort(shuffled.T)])
    assert not table("zero").any()
    assert len(np.unique(table("random-per-picture"), axis=0)) == 24


def test_the_digest_depends_on_the_number_of_pictures_and_how_they_are_combined(cache, features):
    ways = [(1, "mean"), (2, "mean"), (3, "mean"), (3, "draw")]
    digests = {join(ROWS, cache, features, samples=k, combine=how).digest for k, how in ways}
    assert len(digests) == len(ways)
    assert join(ROWS, cache, features, combine="draw").digest in digests  # a single picture needs no combining
