"""The reference's figures for one step, every tensor and scalar, to the tolerance that its README states: scalars to
1e-5 relative, tensors to 1e-5 of their largest absolute value.

The cases come from the folder ARMADA_GOLDEN, else ../shared/golden where it exists, else the copy beside this file.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from distill.objective.aligner import Aligner
from distill.objective.losses import manifold_loss, output_alignment_loss, student_loss, task_loss
from distill.students.heads import StudentHeads

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[3] / "shared" / "golden"
FOLDER = Path(os.environ.get("ARMADA_GOLDEN") or (SHARED if SHARED.is_dir() else HERE / "golden"))


def cases():
    """(facts, tensors) of every case in the folder."""
    found = []
    for facts in sorted(FOLDER.glob("*.json")):
        tensors = load_file(facts.with_suffix(".safetensors"))
        for case in json.loads(facts.read_text()):
            prefix = f"{case['name']}/"
            mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            found.append((case, mine))
    return found


class Step:
    """One step of both sides with the case's weights."""

    def __init__(self, case, tensors):
        self.case, self.tensors = case, tensors
        labels, manifold = case["num_labels"], tensors["teacher_features"].shape[1]
        hidden = tensors["student_pooled"].shape[1]
        self.aligner = Aligner(manifold, labels, tensors["aligner/hidden1.weight"].shape[0], relu=True).eval()
        self.aligner.load_state_dict(self.weights("aligner/"))
        self.heads = StudentHeads(hidden, manifold, labels, relu=True).eval()
        self.heads.load_state_dict(self.weights("student/", without="head."))
        self.head = nn.Linear(hidden, labels)
        self.head.load_state_dict(self.weights("student/head."))
        self.labels = tensors["labels"]
        self.of_aligner = self.aligner(tensors["teacher_features"])
        pooled = tensors["student_pooled"]
        self.of_student = self.heads(pooled, self.head(pooled))

    def weights(self, prefix, without=None):
        short = {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}
        return {name: value for name, value in short.items() if not (without and name.startswith(without))}

    def loss(self, manifold):
        names = ("alpha", "beta", "gamma", "temperature")
        settings = {name: self.case[name] for name in names}
        return student_loss(self.of_aligner, self.of_student, self.labels, manifold=manifold, **settings)


@pytest.fixture(params=cases(), ids=lambda case: case[0]["name"])
def step(request):
    return Step(*request.param)


def test_there_are_golden_cases():
    assert len(cases()) >= 2, f"no golden figures in {FOLDER}"


def test_every_scalar_is_known():
    known = {
        "name", "alpha", "beta", "gamma", "temperature", "num_labels", "aligner_loss", "task_loss",
        "output_alignment_loss", "manifold_loss", "total_loss", "student_projection_grad_norm",
    }  # fmt: skip
    assert set().union(*(case for case, _ in cases())) == known


def test_outputs_match_the_reference(step):
    expected = {name: value for name, value in step.tensors.items() if name.endswith(("_logits", "_projection"))}
    sides = {"aligner": step.of_aligner, "student": step.of_student}
    outputs = {f"{side}_{field}": getattr(sides[side], field) for side in sides for field in sides[side]._fields}
    assert set(expected) == set(outputs)
    for name, value in expected.items():
        error = (outputs[name] - value).abs().max() / value.abs().max()
        assert error <= 1e-5, f"{name}: {error:.2e}"


def test_losses_match_the_reference(step):
    case = step.case
    gamma, temperature = case["gamma"], case["temperature"]
    found = {
        "aligner_loss": task_loss(step.of_aligner, step.labels, gamma),
        "task_loss": task_loss(step.of_student, step.labels, gamma),
        "output_alignment_loss": output_alignment_loss(step.of_aligner, step.of_student, gamma, temperature),
    }
    for name, value in found.items():
        assert value.item() == pytest.approx(case[name], rel=1e-5), name
    for kind, expected in case["manifold_loss"].items():
        value = manifold_loss(kind, step.of_aligner.projection, step.of_student.projection)
        assert value.item() == pytest.approx(expected, rel=1e-5), kind
        assert step.loss(kind).total.item() == pytest.approx(case["total_loss"][kind], rel=1e-5), kind


def test_gradient_of_the_student_projection_matches_the_reference(step):
    for kind, expected in step.case["student_projection_grad_norm"].items():
        (gradient,) = torch.autograd.grad(step.loss(kind).total, step.heads.projection.weight, retain_graph=True)
        assert gradient.norm().item() == pytest.approx(expected, rel=1e-5), kind


def test_no_gradient_reaches_the_aligner(step):
    step.loss("pointwise").total.backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in step.aligner.parameters())
