"""The optimiser and the schedule are those that the settings describe, by the rules of transformers' Trainer."""

import pytest
import torch
from transformers import Trainer, get_cosine_schedule_with_warmup

from distill.settings import TrainSettings
from distill.students.distilled import DistilledStudent
from distill.students.heads import StudentHeads
from distill.students.loading import StudentSpec, load_student
from distill.training.optimizer import make_optimizer, make_schedule
from tests.distill.tiny import save_decoder, save_student

CPU = torch.device("cpu")
KINDS = ["bert", "roberta", "deberta-v2", "modernbert", "llama", "qwen3"]


def student(tmp_path, kind="bert", **options):
    save = save_student if kind in KINDS[:4] else save_decoder
    model, _ = load_student(StudentSpec(str(save(tmp_path, kind)), **options), ["a", "b", "c"], 0)
    return DistilledStudent(model, StudentHeads(16, 4, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_without_decay_are_those_of_transformers_trainer(tmp_path, kind):
    model = student(tmp_path, kind)
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    optimizer, trained = make_optimizer(model, TrainSettings(no_decay="biases-and-norms", weight_decay=0.3), CPU)
    names = {id(weights): name for name, weights in model.named_parameters()}
    found = {group["weight_decay"]: {names[id(one)] for one in group["params"]} for group in optimizer.param_groups}
    assert found == {0.3: decayed, 0.0: set(names.values()) - decayed}
    assert all(name.endswith(("bias", "weight")) for name in found[0.0])
    assert [id(one) for group in optimizer.param_groups for one in group["params"]] == [id(one) for one in trained]


def test_by_default_all_weights_decay_as_in_every_earlier_run(tmp_path):
    model = student(tmp_path)
    optimizer, trained = make_optimizer(model, TrainSettings(), CPU)
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.01, (0.9, 0.999), 1e-8)
    assert [id(one) for one in trained] == [id(one) for one in model.parameters()]


def test_adapters_decay_and_a_group_without_weights_is_left_out(tmp_path):
    model = student(tmp_path, "llama", lora_rank=2)
    model.heads = None
    optimizer, _ = make_optimizer(model, TrainSettings(no_decay="biases-and-norms", adam_beta1=0.5), CPU)
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["betas"]) == (0.01, (0.5, 0.999))


def rates(settings, steps=20):
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=settings.lr)
    schedule, found = make_schedule(optimizer, settings, steps), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_a_schedule_is_that_of_transformers_and_steps_of_warm_up_win_over_a_fraction():
    settings = TrainSettings(schedule="cosine", warmup=0.5, warmup_steps=4, lr=1.0)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    expected = get_cosine_schedule_with_warmup(optimizer, 4, 20).lr_lambdas[0]
    assert rates(settings) == [expected(step) for step in range(20)]
    assert rates(TrainSettings(lr=1.0, warmup=0.2)) == rates(TrainSettings(lr=1.0, warmup_steps=4))
    assert rates(TrainSettings(lr=1.0, schedule="constant", warmup_steps=0)) == [1.0] * 20
    falling = rates(TrainSettings(lr=1.0, schedule="inverse_sqrt", warmup_steps=4))
    assert falling[4] == 1.0
    assert falling[16] == pytest.approx(0.5)
