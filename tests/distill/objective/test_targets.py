"""Targets and training with features in memory, mapped, and in windows of shards.

Mapped features give the same losses as features in memory. Windows give another order, which can be resumed too.
"""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from distill.dataset.join import join, join_lazily
from distill.dataset.tokens import tokenize
from distill.objective.aligner import train_aligner
from distill.objective.targets import EpochTargets, TeacherTargets, feature_blocks
from distill.settings import AlignerSettings, TrainSettings
from distill.students.loading import load_student
from distill.training.trainer import CheckpointConfig, train_student
from teacher_cache import BuildOptions, build, choose, compact, open_features
from tests import fakes
from tests.distill.tiny import save_student, split
from tests.distill.training.test_trainer import LABELS

ROWS = split(40)
LIMIT = 600  # bytes: less than the size of the features
CPU = torch.device("cpu")


@pytest.fixture
def built(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=5))
    return cache


def view_of(cache, mode):
    features = open_features(cache, *choose(cache, None, None), max_local_bytes=LIMIT if mode == "windows" else None)
    return (join if mode == "memory" else join_lazily)(ROWS, cache, features)


def targets_of(cache, mode):
    view = view_of(cache, mode)
    settings = AlignerSettings(width=8, batch_size=8)
    limit = LIMIT if mode == "windows" else None
    states = train_aligner(view.features, torch.tensor(ROWS.labels), 3, 2, settings, 0, "key", limit)
    return TeacherTargets(view.features, states, 8, limit)


def metrics_of(cache, mode, student, folder, stop=None, teacher_targets=None):
    model, tokenizer = load_student(student, LABELS, 0)
    settings = TrainSettings(batch_size=6, lr=1e-3, epochs=2)

    def on_step(step):
        if step == stop:
            raise KeyboardInterrupt

    train_student(
        model,
        tokenize(tokenizer, ROWS.texts, 32),
        ROWS.labels,
        settings,
        data_digest="digest",
        teacher_targets=teacher_targets or targets_of(cache, mode),
        checkpoint_config=CheckpointConfig(folder / "checkpoints", folder / "metrics.jsonl", save_steps=2),
        accelerator=Accelerator(cpu=True),
        on_step=on_step,
    )
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def student(tmp_path):
    return str(save_student(tmp_path / "student"))


def test_mapped_features_give_bit_identical_losses_to_features_in_memory(built, student, tmp_path):
    logs = [metrics_of(built, mode, student, tmp_path / mode) for mode in ("memory", "mapped")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_run_in_windows_resumes_as_if_uninterrupted_even_after_a_compaction(built, student, tmp_path, compacted):
    whole = metrics_of(built, "windows", student, tmp_path / "whole")
    assert len(whole) == 14
    teacher_targets = targets_of(built, "windows")
    with pytest.raises(KeyboardInterrupt):
        metrics_of(built, "windows", student, tmp_path / "stopped", stop=5, teacher_targets=teacher_targets)
    if compacted:
        compact(built)
        teacher_targets = TeacherTargets(view_of(built, "windows").features, teacher_targets.states, 8, LIMIT)
    resumed = metrics_of(built, "windows", student, tmp_path / "stopped", teacher_targets=teacher_targets)
    if not compacted:
        assert resumed == whole
    for line, expected in zip(resumed, whole, strict=True):
        assert line == pytest.approx(expected, abs=1e-5)


def test_the_targets_of_a_row_do_not_depend_on_where_its_features_are_stored(built):
    plain = targets_of(built, "memory")
    rows = np.array([31, 2, 17])
    results = []
    for mode in ("memory", "mapped", "windows"):
        teacher_targets = TeacherTargets(view_of(built, mode).features, plain.states, 8, LIMIT)
        found = {}
        for index, part in feature_blocks(teacher_targets.features, 0):
            found |= dict(zip(index.tolist(), part, strict=True))
        assert sorted(found) == list(range(40))
        epoch_targets = EpochTargets(teacher_targets, 1, CPU)
        outputs = epoch_targets.outputs(torch.from_numpy(rows), torch.stack([found[row] for row in rows.tolist()]))
        results.append([*outputs, epoch_targets.center])
    for other in results[1:]:
        assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(results[0], other, strict=True))
