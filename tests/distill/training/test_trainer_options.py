"""What users of Trainer expect keeps this trainer's promises: exact resume, and the same numbers where only the memory
or the number format changes."""

import warnings

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import TorchDynamoPlugin

from distill.students.generation import answer_loss, load_generator, tokenize_answers
from distill.students.loading import StudentSpec, load_student
from distill.training import trainer
from distill.training.activations import checkpoint_gradients
from distill.training.steps import Steps
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training import test_trainer
from tests.distill.training.test_resume import run_until
from tests.distill.training.test_trainer import LABELS, run, teacher_targets, weights

OPTIONS = {
    "schedule": "cosine",
    "warmup_steps": 3,
    "no_decay": "biases-and-norms",
    "adam_beta1": 0.8,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "label_smoothing": 0.1,
    "class_weights": ("balanced",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_student(tmp_path_factory.mktemp("student"), layers=2))


def interrupted(monkeypatch, student, tmp_path, targets, **options):
    """The weights of a run that was stopped in the middle of an epoch and resumed, and of one that was not."""
    given = run
    monkeypatch.setattr("tests.distill.training.test_resume.run", lambda *a, **named: given(*a, **named, **options))
    run_until(9, student, tmp_path / "stopped", targets, 2)
    resumed, _ = run(student, tmp_path / "stopped", targets, save_steps=2, **options)
    whole, _ = run(student, tmp_path / "whole", targets, **options)
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("stopped", "whole")]
    assert logs[0] == logs[1]
    return weights(resumed), weights(whole)


@pytest.mark.parametrize("distilled", [False, True], ids=["undistilled", "distilled"])
def test_a_stopped_run_with_every_option_resumes_to_the_bit(monkeypatch, folder, tmp_path, distilled):
    student = StudentSpec(folder, lora_rank=2, lora_alpha=3.0, lora_dropout=0.2) if distilled else folder
    resumed, whole = interrupted(monkeypatch, student, tmp_path, teacher_targets() if distilled else None, **OPTIONS)
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_option_changes_what_is_learned(folder, tmp_path, name):
    plain, _ = run(folder, tmp_path / "plain", epochs=1, weight_decay=0.1)
    other, _ = run(folder, tmp_path / "other", epochs=1, weight_decay=0.1, **{name: OPTIONS[name]})
    labels = test_trainer.ROWS.labels
    assert len({labels.count(label) for label in labels}) > 1  # or balanced weights would change nothing
    assert not torch.equal(weights(plain), weights(other))


def test_gradient_checkpointing_keeps_fewer_activations_and_the_same_steps(monkeypatch, folder, tmp_path):
    kept, found = {}, {}
    load = load_student
    for name in ("kept", "computed again"):

        def checkpointed(*given, again=name == "computed again"):
            model, tokenizer = load(*given)
            if again:
                checkpoint_gradients("student", model)
            return model, tokenizer

        sizes = kept.setdefault(name, [])
        monkeypatch.setattr(test_trainer, "load_student", checkpointed)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            found[name] = weights(run(folder, tmp_path / name, teacher_targets(), epochs=1)[0])
    assert torch.equal(*found.values())
    assert sum(kept["computed again"]) < 0.8 * sum(kept["kept"])


def test_an_architecture_without_gradient_checkpointing_is_refused_by_name(folder, monkeypatch):
    model, _ = load_student(folder, LABELS, 0)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(ArmadaError, match="--gradient-checkpointing: mine: not available for bert; use --accumulate N"):
        checkpoint_gradients("mine", model)


def with_scale(scale):
    """An accelerator of the CPU in float16, as accelerate makes it for a GPU."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=4)
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"
    return accelerator


@pytest.fixture
def fp16(monkeypatch):
    """Let `run` train in float16 from now on, and return the scale and the weights after every step."""
    found = []
    step = Steps.step

    def recorded(self, *given):
        terms = step(self, *given)
        found.append((self._accelerator.scaler.get_scale(), weights(self._bare.model)))
        return terms

    def start(scale=2.0**10):
        monkeypatch.setattr(trainer.Steps, "step", recorded)
        monkeypatch.setattr(test_trainer, "Accelerator", lambda cpu: with_scale(scale))
        return found

    yield start
    Accelerator(cpu=True).state._reset_state(reset_partial_state=True)


def test_training_in_fp16_with_a_loss_scale_is_near_fp32_and_resumes_to_the_bit(monkeypatch, fp16, folder, tmp_path):
    full, _ = run(folder, tmp_path / "full", teacher_targets())
    steps = fp16()
    resumed, whole = interrupted(monkeypatch, folder, tmp_path, teacher_targets())
    assert torch.equal(resumed, whole)
    assert not torch.equal(weights(full), whole)
    assert (weights(full) - whole).abs().max() < 0.02
    assert steps[-1][0] > 2.0**10  # the scale has grown


def test_a_step_whose_scaled_gradient_overflows_is_left_out_with_a_smaller_scale(fp16, folder, tmp_path):
    steps = fp16(scale=2.0**30)
    _, epochs = run(folder, tmp_path, teacher_targets())
    scales, found = zip(*steps, strict=True)
    assert scales[:2] == (2.0**29, 2.0**28)
    assert torch.equal(found[0], found[1])  # both overflow
    assert not torch.equal(found[0], found[-1])
    assert all(torch.isfinite(one).all() for one in found)
    assert epochs[-1].loss < epochs[0].loss


def test_a_compiled_student_takes_the_same_steps_and_its_checkpoint_is_that_of_a_plain_one(
    monkeypatch, folder, tmp_path
):
    """By the backend that needs no compiler of the system; tests/pipelines/run/test_compile.py has the real one."""
    plain, _ = run(folder, tmp_path / "plain", teacher_targets(), dropout=0.0)
    plugin = TorchDynamoPlugin(backend="aot_eager", dynamic=True)
    compiled = []

    def stop(step):
        compiled.append(step)
        if step == 9:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr(test_trainer, "Accelerator", lambda cpu: Accelerator(cpu=cpu, dynamo_plugin=plugin))
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "one", teacher_targets(), save_steps=2, on_step=stop, dropout=0.0)
    monkeypatch.undo()
    resumed, _ = run(folder, tmp_path / "one", teacher_targets(), dropout=0.0)
    assert compiled[-1] == 9
    assert torch.allclose(weights(resumed), weights(plain), atol=1e-4)


def test_label_smoothing_of_a_generative_student_is_torchs_over_the_answers_tokens(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    rows = tokenize_answers(tokenizer, ["good 1", "bad 2"], ["1 2", "3"], 16)
    batch = rows.tokens.batch([0, 1], torch.device("cpu"))
    first = torch.tensor(rows.first)
    _, _, sums = answer_loss(model.eval(), batch, first, 0.2)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    loss = torch.nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.2)
    expected = loss(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
    assert sums[:, 0].sum().item() == pytest.approx(expected.item())
