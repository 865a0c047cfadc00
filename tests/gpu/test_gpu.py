"""On a GPU: pictures, features and training are those of the CPU up to rounding, and a run says where it was computed.

ARMADA_TEST_DEVICE=cpu runs the same code on a machine without a GPU, which shows only that the tests are sound.
"""

import io
import itertools
import json
import os

import numpy as np
import pytest
from PIL import Image

from teacher_cache import image_key, open_encoder, open_teacher, prompt_key
from teacher_cache.keys import seed_of
from teacher_cache.teachers import Request
from tests.distill.tiny import save_student
from tests.fakes import png
from tests.pipelines.cli import FAKES, armada
from tests.teacher_cache.tiny_models import save_open_clip, save_stable_diffusion, save_tower

pytestmark = pytest.mark.gpu
DEVICE = os.environ.get("ARMADA_TEST_DEVICE", "cuda")
PROMPTS = [f"a picture of {word}" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]


@pytest.fixture(scope="module", autouse=True)
def _device():
    """Tests that were asked for and have no GPU fail: a run without one is no proof."""
    import torch

    assert DEVICE == "cpu" or torch.cuda.is_available(), "expected a GPU that torch can use; found none"


def drawn(spec, prompts):
    keys = [image_key("t", prompt_key(prompt)) for prompt in prompts]
    requests = [Request(key, prompt, 0, seed_of(key)) for key, prompt in zip(keys, prompts, strict=True)]
    found = {answer.image_key: answer.data for answer in open_teacher(spec).draw(iter(requests))}
    return [np.asarray(Image.open(io.BytesIO(found[key]))).astype(int) for key in keys]


def test_a_picture_does_not_depend_on_its_batch_its_order_or_its_device(tmp_path):
    """A pipeline with random weights draws noise, in which two seeds differ by dozens of levels."""
    folder = save_stable_diffusion(tmp_path / "model")

    def spec(batch, device=DEVICE):
        return f"diffusers:{folder}?steps=3&height=64&width=64&dtype=fp32&batch={batch}&device={device}"

    alone = drawn(spec(1), PROMPTS)
    assert min(np.abs(one - other).mean() for one, other in itertools.pairwise(alone)) > 5
    for others in (drawn(spec(3), PROMPTS[::-1])[::-1], drawn(spec(8), PROMPTS), drawn(spec(4, "cpu"), PROMPTS)):
        assert max(np.abs(one - other).mean() for one, other in zip(alone, others, strict=True)) < 1


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip", "dinov2"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_features_are_those_of_the_cpu_up_to_rounding(tmp_path, kind, precision):
    if kind == "open_clip":
        config, weights = save_open_clip(tmp_path)
        model = f"open_clip:tiny/{weights}?config={config}&"
    else:
        model = f"transformers:{save_tower(tmp_path / kind, kind)}?"
    pictures = [png(seed, 48) for seed in range(12)]
    found = open_encoder(f"{model}device={DEVICE}&precision={precision}&batch=5").encode(pictures, [""] * 12)
    expected = open_encoder(f"{model}device=cpu&precision=fp32&batch=12").encode(pictures, [""] * 12)
    cosines = (found * expected).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1))
    assert cosines.min() > (0.99999 if precision == "fp32" else 0.99)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A folder with labelled rows, a student, and a cache of their features."""
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        f"{('good', 'bad', 'fine')[i % 3]} plane number {i},{('negative', 'neutral', 'positive')[i % 3]}"
        for i in range(96)
    ]
    (folder / "rows.csv").write_text("text,sentiment\n" + "\n".join(lines) + "\n")
    save_student(folder / "student")
    built = armada("cache", "build", folder / "rows.csv", *FAKES, "--cache", folder / "cache")
    assert built.returncode == 0, built.stderr
    return folder


def trained(rows, out, *words, **variables):
    where = (
        "--task",
        "demo/sentiment",
        "--data-files",
        rows / "rows.csv",
        "--student",
        rows / "student",
        "--cache",
        rows / "cache",
    )
    run = armada("train", *where, "--out", out, "--batch-size", 16, "--epochs", 2, "--lr", 1e-3, *words, **variables)
    assert run.returncode == 0, run.stderr
    return json.loads((out / "run.json").read_text())


@pytest.mark.parametrize("objective", ["armada", "crossfit"])
def test_a_student_trains_with_the_losses_of_the_cpu(rows, tmp_path, objective):
    words = ("--precision", "fp32", "--objective", objective)
    here = trained(rows, tmp_path / "gpu", *words)
    there = trained(rows, tmp_path / "cpu", *words, CUDA_VISIBLE_DEVICES="")
    assert here["device"].startswith(DEVICE)
    assert there["device"] == "cpu"
    losses = [[epoch["loss"] for epoch in run["epochs"]] for run in (here, there)]
    assert np.allclose(*losses, rtol=0.02), losses


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16"])
def test_lower_precision_trains_and_is_recorded(rows, tmp_path, precision):
    if (DEVICE, precision) == ("cpu", "fp16"):
        pytest.skip("fp16 trains on a GPU only")
    run = trained(rows, tmp_path / "run", *(() if precision == "auto" else ("--precision", precision)))
    assert run["precision"] in ("fp32", "bf16", "fp16") if precision == "auto" else run["precision"] == precision
    assert all(np.isfinite(epoch["loss"]) for epoch in run["epochs"])
