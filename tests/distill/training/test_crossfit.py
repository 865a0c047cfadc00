"""Training with the objective `crossfit`: it resumes exactly, computes a batch in parts, and every part counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.objective.crossfit import CrossfitTargets
from distill.objective.whitening import fit_whitening
from teacher_cache import ArmadaError
from tests.distill.tiny import save_student
from tests.distill.training.test_trainer import ROWS, run, weights


def crossfit_targets(components=4):
    generator = np.random.Generator(np.random.PCG64(5))
    features = generator.normal(size=(len(ROWS), 12)).astype(np.float16)
    whitening = fit_whitening(features, components, 0.5) if components else None
    logits = torch.from_numpy(generator.normal(size=(len(ROWS), 3)).astype(np.float32))
    return CrossfitTargets(features, logits, whitening, np.arange(len(ROWS)) // 2, "key")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return str(save_student(tmp_path_factory.mktemp("student"), **still))


def trained(student, folder, targets=None, **changes):
    model, epochs = run(student, folder, targets or crossfit_targets(), objective="crossfit", epochs=2, **changes)
    return weights(model), epochs


def test_a_stopped_run_goes_on_with_the_same_weights_of_its_terms(student, tmp_path):
    whole, expected = trained(student, tmp_path / "whole")

    def stop(step):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(student, tmp_path / "stopped", save_steps=3, on_step=stop)
    resumed, epochs = trained(student, tmp_path / "stopped")
    assert torch.equal(whole, resumed)
    assert [epoch.loss for epoch in epochs] == [epoch.loss for epoch in expected]
    log, other = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "stopped"))
    assert log == other


def test_a_batch_in_parts_takes_the_steps_of_the_whole(student, tmp_path):
    whole, _ = trained(student, tmp_path / "whole")
    parts, _ = trained(student, tmp_path / "parts", accumulate=3)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 0.0},
        {"contrast": 0.0},
        {"balance": "none"},
        {"balance": "all"},
        {"output_loss": "mse"},
        {"temperature": 1.0},
    ],
    ids=["no teacher outputs", "no contrast", "no balance", "all balanced", "mse", "temperature"],
)
def test_every_part_can_be_switched_off(student, tmp_path, changes):
    whole, _ = trained(student, tmp_path / "whole", max_steps=4)
    without, epochs = trained(student, tmp_path / "without", max_steps=4, **changes)
    assert not torch.allclose(whole, without, atol=1e-6)
    (epoch,) = epochs
    assert (epoch.output_alignment == 0) == (changes.get("alpha") == 0)
    assert (epoch.manifold == 0) == (changes.get("contrast") == 0)


def test_raw_features_are_contrasted_without_components(student, tmp_path):
    raw = crossfit_targets(components=0)
    assert (raw.projection_width, crossfit_targets().projection_width) == (12, 4)
    trained(student, tmp_path, raw, max_steps=3)


def test_features_without_any_variance_teach_nothing_and_break_nothing(student, tmp_path):
    """The control `zero`: with no logits to learn from either, the run is plain fine-tuning."""
    zeros = np.zeros((len(ROWS), 12), np.float16)
    targets = replace(crossfit_targets(), features=zeros, whitening=fit_whitening(zeros, 4, 0.5))
    distilled, _ = trained(student, tmp_path / "zero", targets, alpha=0.0, contrast=1.0)
    plain, _ = run(student, tmp_path / "plain", epochs=2)
    torch.testing.assert_close(distilled, weights(plain), atol=1e-6, rtol=1e-5)


def test_a_checkpoint_of_the_other_objective_is_refused(student, tmp_path):
    trained(student, tmp_path, max_steps=3)
    with pytest.raises(ArmadaError, match=r"settings\.objective was 'crossfit', now 'armada'"):
        run(student, tmp_path, crossfit_targets(), epochs=2, max_steps=3)
