"""The training loop: bit-identical when it is repeated, and plain fine-tuning without a teacher."""

import pytest
import torch
from accelerate import Accelerator

from distill.dataset.order import batches
from distill.dataset.tokens import tokenize
from distill.objective.aligner import train_aligner
from distill.objective.targets import TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.loading import load_student
from distill.training.trainer import CheckpointConfig, train_student
from tests.distill.tiny import save_student, split

ROWS = split(44)
LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_student(tmp_path_factory.mktemp("student")))


def teacher_targets(epochs=3, seed=0):
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(len(ROWS), 12, generator=generator).half()
    states = train_aligner(
        features, torch.tensor(ROWS.labels), 3, epochs, AlignerSettings(width=8, batch_size=8), seed, "key"
    )
    return TeacherTargets(features, states, 8)


def run(student, tmp_path, targets=None, save_steps=500, on_step=lambda step: None, identity=None, **changes):
    settings = TrainSettings(**{"batch_size": 8, "lr": 1e-3, "epochs": 3, **changes})
    model, tokenizer = load_student(student, LABELS, settings.seed)
    tokens = tokenize(tokenizer, ROWS.texts, 128)
    epochs = train_student(
        model,
        tokens,
        ROWS.labels,
        settings,
        data_digest="digest",
        teacher_targets=targets,
        checkpoint_config=CheckpointConfig(
            tmp_path / "checkpoints", tmp_path / "metrics.jsonl", save_steps, identity=identity or {}
        ),
        accelerator=Accelerator(cpu=True),
        on_step=on_step,
    )
    return model, epochs


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("distilled", [False, True], ids=["undistilled", "distilled"])
def test_a_run_is_replayed_to_the_bit(folder, tmp_path, distilled):
    results = []
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)
        results.append(run(folder, tmp_path / name, teacher_targets() if distilled else None))
    assert torch.equal(weights(results[0][0]), weights(results[1][0]))
    assert [epoch.loss for epoch in results[0][1]] == [epoch.loss for epoch in results[1][1]]


def test_undistilled_is_plain_fine_tuning(folder, tmp_path):
    """The same model, order and schedule in a plain loop, without our trainer, give the same weights."""
    from transformers import get_linear_schedule_with_warmup

    trained, _ = run(folder, tmp_path, epochs=2)
    model, tokenizer = load_student(folder, LABELS, 0)
    tokens = tokenize(tokenizer, ROWS.texts, 128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 1, 12)
    torch.manual_seed(0)
    model.train()
    for epoch in range(2):
        for rows in batches(len(ROWS), 8, key="digest", seed=0, epoch=epoch, lengths=tokens.lengths):
            labels = torch.tensor([ROWS.labels[row] for row in rows])
            model(**tokens.batch(rows, torch.device("cpu")), labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    assert torch.allclose(weights(trained), weights(model), atol=1e-6)


@pytest.mark.parametrize("manifold", ["cosine", "euclid", "pointwise", "relational", "none"])
def test_every_manifold_loss_trains_and_changes_the_student(folder, tmp_path, manifold):
    distilled, epochs = run(folder, tmp_path / "a", teacher_targets(), manifold=manifold)
    plain, _ = run(folder, tmp_path / "b", teacher_targets(), manifold=manifold, alpha=0.0, beta=0.0)
    assert not torch.allclose(weights(distilled), weights(plain), atol=1e-5)
    assert all(torch.isfinite(torch.tensor(epoch.loss)) for epoch in epochs)
    if manifold in ("euclid", "relational"):
        assert epochs[-1].manifold < epochs[0].manifold


def test_epoch_e_of_the_student_uses_aligner_state_e(folder, tmp_path):
    """Changing the aligner state of the last epoch changes no loss before it."""
    targets = teacher_targets()
    other = TeacherTargets(targets.features, [*targets.states[:2], teacher_targets(seed=9).states[2]], targets.width)
    one, two = (run(folder, tmp_path / name, t)[1] for name, t in (("one", targets), ("two", other)))
    assert [epoch.loss for epoch in one[:2]] == [epoch.loss for epoch in two[:2]]
    assert one[2].loss != two[2].loss


def test_max_steps_ends_in_the_middle_of_an_epoch(folder, tmp_path):
    _, epochs = run(folder, tmp_path, max_steps=8)
    assert [epoch.steps for epoch in epochs] == [6, 2]


def test_texts_longer_than_the_limit_are_cut_and_counted(folder):
    _, tokenizer = load_student(folder, LABELS, 0)
    tokens = tokenize(tokenizer, [("good bad " * 40,), ("good",)], 16)
    assert tokens.truncated == 1
    assert tokens.lengths.tolist() == [16, 3]


def test_the_two_fields_of_a_pair_have_different_token_types(folder):
    _, tokenizer = load_student(folder, LABELS, 0)
    tokens = tokenize(tokenizer, [("good", "bad late")], 16)
    assert tokens.columns["token_type_ids"] == [[0, 0, 0, 1, 1, 1]]


def test_the_seed_determines_the_new_task_head(folder):
    one, two, other = (load_student(folder, LABELS, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert torch.equal(weights(one.base_model), weights(other.base_model))
