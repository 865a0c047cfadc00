"""A loss or gradient that is not finite stops the run at its step; parts of a batch weigh as the whole does."""

import json

import pytest
import torch
from accelerate import Accelerator

from distill.objective.aligner import train_aligner
from distill.settings import AlignerSettings, TrainSettings
from distill.students.generation import load_generator, tokenize_answers
from distill.students.loading import StudentSpec
from distill.training.trainer import CheckpointConfig, train_student
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training.test_trainer import run, teacher_targets, weights

STEPS = 6  # per epoch


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return str(save_student(tmp_path_factory.mktemp("student")))


def test_a_loss_that_is_nan_stops_with_its_step_and_keeps_the_last_good_checkpoint(student, tmp_path, monkeypatch):
    from distill.training.steps import Steps

    step = Steps.step

    def poisoned(self, batch, targets):
        if self._schedule.last_epoch == STEPS + 1:
            with torch.no_grad():
                self._trained[0].fill_(float("nan"))
        return step(self, batch, targets)

    with monkeypatch.context() as patch:
        patch.setattr(Steps, "step", poisoned)
        with pytest.raises(ArmadaError, match=r"step 8: expected a finite loss, found nan.*step 7 is kept.*--lr"):
            run(student, tmp_path, teacher_targets(), save_steps=1)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000006.pt", "step-00000007.pt",
    ]  # fmt: skip
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 2))
    steps = []
    model, _ = run(student, tmp_path, teacher_targets(), save_steps=1, on_step=steps.append)  # the cause is gone
    assert steps[0] == STEPS + 2
    assert torch.isfinite(weights(model)).all()


def test_a_gradient_that_overflows_is_found_before_the_weights_are_saved(student, tmp_path, monkeypatch):
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *given: torch.full_like(clip(*given), float("inf")))
    with pytest.raises(ArmadaError, match="step 1: expected a finite gradient, found inf"):
        run(student, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_an_aligner_that_diverges_is_not_kept():
    features = torch.full((8, 4), 300.0).half()
    labels = torch.arange(8) % 2
    with pytest.raises(ArmadaError, match=r"aligner: step \d+: expected a finite loss.*--aligner-lr"):
        train_aligner(features, labels, 2, 6, AlignerSettings(width=4, batch_size=4, lr=1e30), 0, "key")


@pytest.mark.parametrize("parts", [2, 3])
def test_the_step_of_a_generative_student_does_not_depend_on_the_parts_of_its_batch(tmp_path, monkeypatch, parts):
    """The answers have 1 to 7 words: parts that weighed by rows changed the gradient by 16 to 36 percent."""
    path = save_decoder(tmp_path / "student", causal=True, initializer_range=0.3)
    gradients, clip = [], torch.nn.utils.clip_grad_norm_

    def recorded(parameters, largest):
        gradients.append(torch.cat([one.grad.flatten() for one in parameters if one.grad is not None]))
        return clip(parameters, largest)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
    losses = []
    for accumulate in (1, parts):
        model, tokenizer = load_generator(StudentSpec(str(path)), 0)
        prompts = [f"my plane {row}" for row in range(6)]
        answers = [" ".join(str((row + place) % 10) for place in range(1 + 6 * (row % 2))) for row in range(6)]
        tokenized = tokenize_answers(tokenizer, prompts, answers, 32)
        epochs = train_student(
            model, tokenized.tokens, tokenized.targets, TrainSettings(batch_size=6, epochs=1, accumulate=accumulate),
            data_digest="digest", teacher_targets=None, checkpoint_config=CheckpointConfig(tmp_path / str(accumulate)),
            accelerator=Accelerator(cpu=True), first=tokenized.first,
        )  # fmt: skip
        losses.append(epochs[0].task)
    whole, summed = gradients
    assert (summed - whole).norm() < 1e-4 * whole.norm()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
