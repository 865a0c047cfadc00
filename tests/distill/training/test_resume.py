"""A run that was stopped anywhere resumes with bit-identical losses and weights.

The checkpoint of another run is refused, with all differences.
"""

import json

import pytest
import torch

from distill.students.loading import StudentSpec
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training.test_trainer import run, teacher_targets, weights

STEPS = 6  # per epoch: 44 rows in batches of 8


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    decoder = StudentSpec(str(save_decoder(folder / "decoder")), lora_rank=2)
    return {"encoder": StudentSpec(str(save_student(folder / "encoder"))), "lora-decoder": decoder}


@pytest.fixture(scope="module")
def unbroken(students, tmp_path_factory):
    """The model and metrics log of uninterrupted runs, by (student, distilled)."""
    found = {}
    for kind, student in students.items():
        for distilled in (False, True):
            folder = tmp_path_factory.mktemp("whole")
            model, epochs = run(student, folder, teacher_targets() if distilled else None)
            found[kind, distilled] = (model, epochs, (folder / "metrics.jsonl").read_text())
    return found


def run_until(stop, student, folder, targets, save_steps):
    def on_step(step):
        if step == stop:
            raise KeyboardInterrupt

    torch.manual_seed(stop)  # the resumed run must not depend on this state of the generators
    with pytest.raises(KeyboardInterrupt):
        run(student, folder, targets, save_steps=save_steps, on_step=on_step)


@pytest.mark.parametrize("distilled", [False, True], ids=["undistilled", "distilled"])
@pytest.mark.parametrize("kind", ["encoder", "lora-decoder"])
@pytest.mark.parametrize(
    ("stops", "save_steps"),
    [
        ([1], 500),  # before the first checkpoint: from step 0
        ([3], 2),  # in the middle of an epoch, a step after its checkpoint
        ([STEPS], 1),  # after the last batch of an epoch, before its checkpoint
        ([STEPS + 1], 500),  # after the first batch of an epoch
        ([2 * STEPS + 4, 2 * STEPS + 5], 1),  # twice
        ([3 * STEPS], 4),  # after the last batch of the run
    ],
)
def test_a_stopped_run_gives_the_losses_and_weights_of_an_unbroken_one(
    students, unbroken, tmp_path, kind, distilled, stops, save_steps
):
    targets = teacher_targets() if distilled else None
    whole, expected, metrics_log = unbroken[kind, distilled]
    for stop in stops:
        run_until(stop, students[kind], tmp_path, targets, save_steps)
    steps = []
    resumed, epochs = run(students[kind], tmp_path, targets, save_steps=save_steps, on_step=steps.append)
    assert steps[-1] == 3 * STEPS
    assert stops[-1] - save_steps <= steps[0] <= stops[-1] or save_steps > 3 * STEPS
    assert (tmp_path / "metrics.jsonl").read_text() == metrics_log
    assert torch.equal(weights(whole), weights(resumed))
    assert [epoch.loss for epoch in epochs] == [epoch.loss for epoch in expected]


def test_the_metrics_log_has_one_line_per_step_with_every_term(unbroken):
    lines = [json.loads(line) for line in unbroken["encoder", True][2].splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 3 * STEPS + 1))
    assert [line["epoch"] for line in lines] == [0] * STEPS + [1] * STEPS + [2] * STEPS
    assert set(lines[0]) == {"step", "epoch", "loss", "task", "output_alignment", "manifold"}


def test_only_the_last_checkpoints_are_kept_and_no_drafts(students, tmp_path):
    run_until(8, students["encoder"], tmp_path, None, 1)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000006.pt", "step-00000007.pt"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_checkpoint_leaves_the_one_before_it(students, unbroken, tmp_path, damage):
    run_until(5, students["encoder"], tmp_path, None, 1)
    path = tmp_path / "checkpoints" / "step-00000004.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    resumed, _ = run(students["encoder"], tmp_path)
    assert torch.equal(weights(resumed), weights(unbroken["encoder", False][0]))
    assert (tmp_path / "metrics.jsonl").read_text() == unbroken["encoder", False][2]


def test_a_checkpoint_of_another_run_is_refused_with_all_differences(students, tmp_path):
    before = {"features": {"teacher": "pictogram-1", "dimension": 1280}, "view_digest": "aa"}
    after = {"features": {"teacher": "openai-2", "dimension": 512}, "view_digest": "bb"}
    run(students["encoder"], tmp_path, identity=before, epochs=1)
    with pytest.raises(ArmadaError) as caught:
        run(students["encoder"], tmp_path, identity=after, epochs=1, lr=2e-3)
    for change in (
        "features.dimension was 1280, now 512",
        "features.teacher was 'pictogram-1', now 'openai-2'",
        "settings.lr was 0.001, now 0.002",
        "view_digest was 'aa', now 'bb'",
        "step-00000006.pt: another run is here",
    ):
        assert change in str(caught.value)


def test_the_interval_of_checkpoints_is_not_part_of_the_identity_of_a_run(students, tmp_path):
    run(students["encoder"], tmp_path, save_steps=2, epochs=1)
    steps = []
    run(students["encoder"], tmp_path, save_steps=3, epochs=1, on_step=steps.append)
    assert steps == []
