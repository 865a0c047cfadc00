"""The diffusers teacher with a real, tiny Stable Diffusion: a picture depends on its prompt and its seed only."""

import io
import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    SpecError,
    build,
    image_key,
    open_teacher,
    prompt_key,
    source_of_teacher,
    status,
)
from teacher_cache.keys import seed_of
from teacher_cache.teachers import Picture, Request
from tests import fakes
from tests.teacher_cache.tiny_models import save_stable_diffusion

PROMPTS = [f"a picture of {word}" for word in ["one", "two", "three", "four", "five", "six", "seven", "eight"]]
TOLERANCE = 2  # of 255 levels; the difference was 0 on the CPUs that we tried


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("diffusers") / "model")


def spec(folder, **options):
    options = {"steps": 3, "height": 32, "width": 32, **options}
    return f"diffusers:{folder}?" + "&".join(f"{name}={value}" for name, value in options.items())


def requests(prompts):
    keys = [image_key("t", prompt_key(prompt)) for prompt in prompts]
    return [Request(key, prompt, 0, seed_of(key)) for key, prompt in zip(keys, prompts, strict=True)]


def pixels(teacher, prompts):
    found = {}
    for answer in teacher.draw(iter(requests(prompts))):
        assert isinstance(answer, Picture), answer
        found[answer.image_key] = np.asarray(Image.open(io.BytesIO(answer.data))).astype(int)
    return [found[request.image_key] for request in requests(prompts)]


def test_a_picture_does_not_depend_on_batch_or_order(folder):
    alone = pixels(open_teacher(spec(folder, batch=1)), PROMPTS)
    assert alone[0].shape == (32, 32, 3)
    assert min(np.abs(a - b).max() for a, b in itertools.pairwise(alone)) > 20  # the seeds differ
    for batch in (3, 8):
        teacher = open_teacher(spec(folder, batch=batch))
        assert np.abs(np.array(pixels(teacher, PROMPTS)) - alone).max() <= TOLERANCE
        assert np.abs(np.array(pixels(teacher, PROMPTS[::-1])[::-1]) - alone).max() <= TOLERANCE


def test_the_picture_equals_that_of_the_library(folder):
    from diffusers import StableDiffusionPipeline

    teacher = open_teacher(spec(folder, guidance=5.0, negative="blurry"))
    (request,) = requests(PROMPTS[:1])
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    expected = pipeline(
        prompt=request.prompt,
        negative_prompt="blurry",
        guidance_scale=5.0,
        num_inference_steps=3,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(request.seed),
    ).images[0]
    assert np.abs(pixels(teacher, PROMPTS[:1])[0] - np.asarray(expected).astype(int)).max() <= TOLERANCE


def test_the_key_depends_on_exactly_the_settings_that_change_a_picture(folder, tmp_path):
    digest = source_of_teacher(open_teacher(spec(folder))).digest
    moved = shutil.copytree(folder, tmp_path / "moved")
    same = [spec(moved), spec(folder, batch=4), spec(folder, device="cpu"), spec(folder, slicing="true")]
    assert {source_of_teacher(open_teacher(text)).digest for text in same} == {digest}
    scheduler = json.loads((moved / "scheduler/scheduler_config.json").read_text())
    (moved / "scheduler/scheduler_config.json").write_text(json.dumps({**scheduler, "beta_end": 0.03}))
    other = [
        spec(moved),
        spec(folder, steps=4),
        spec(folder, guidance=7.5),
        spec(folder, negative="blurry"),
        spec(folder, width=64),
        spec(folder, scheduler="EulerDiscreteScheduler"),
        spec(folder, dtype="bf16"),
    ]
    digests = [source_of_teacher(open_teacher(text)).digest for text in other]
    assert len({digest, *digests}) == len(other) + 1


def test_another_scheduler_draws_another_picture(folder):
    plain, euler = (
        pixels(open_teacher(text), PROMPTS[:1])[0]
        for text in (spec(folder), spec(folder, scheduler="EulerDiscreteScheduler", slicing="true"))
    )
    assert np.abs(plain - euler).max() > TOLERANCE


def test_the_key_of_a_hub_model_contains_its_resolved_revision(folder, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub = tmp_path / "hub"
    model = hub / "models--someone--tiny"
    for commit in ("1" * 40, "2" * 40):
        shutil.copytree(folder, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("1" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    first = open_teacher(spec("someone/tiny"))
    assert first.spec["revision"] == "1" * 40
    assert len(pixels(first, PROMPTS[:1])) == 1
    (model / "refs" / "main").write_text("2" * 40)
    second = open_teacher(spec("someone/tiny"))
    assert source_of_teacher(second).digest != source_of_teacher(first).digest
    pinned = open_teacher(spec("someone/tiny", revision="1" * 40))
    assert source_of_teacher(pinned).digest == source_of_teacher(first).digest


def test_a_batch_that_does_not_fit_into_the_memory_is_halved(folder, capsys):
    teacher = open_teacher(spec(folder, batch=8))
    pipeline, settings = teacher._pipeline
    sizes = []

    def small_memory(prompt, **kwargs):
        sizes.append(len(prompt))
        if len(prompt) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pipeline(prompt=prompt, **kwargs)

    teacher._pipeline = (small_memory, settings)
    expected = pixels(open_teacher(spec(folder)), PROMPTS)
    assert np.abs(np.array(pixels(teacher, PROMPTS)) - expected).max() <= TOLERANCE
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert "going on with batches of 2" in capsys.readouterr().err


def test_a_device_too_small_for_one_picture_stops_the_build_which_keeps_its_pictures(folder, cache):
    teacher = open_teacher(spec(folder, batch=1))
    pipeline, settings = teacher._pipeline
    calls = []

    def no_memory(**kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pipeline(**kwargs)

    teacher._pipeline = (no_memory, settings)
    with pytest.raises(ArmadaError, match="no memory for one picture"):
        build(cache, PROMPTS, teacher, fakes.encoder())
    (state,) = status(cache)
    assert (state.pictures, state.in_flight) == (3, 0)


def test_flagged_and_black_pictures_are_failures_with_their_reason(folder, cache):
    teacher = open_teacher(spec(folder, batch=3))
    pipeline, settings = teacher._pipeline

    def flagging(**kwargs):
        output = pipeline(**kwargs)
        output.nsfw_content_detected = ["one" in prompt for prompt in kwargs["prompt"]]
        for row, prompt in enumerate(kwargs["prompt"]):
            if "two" in prompt:
                output.images[row] = Image.new("RGB", (32, 32))
        return output

    teacher._pipeline = (flagging, settings)
    report = build(cache, PROMPTS[:4], teacher, fakes.encoder(), BuildOptions())
    assert (report.drawn, report.failed) == (2, {"blank": 1, "refused": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diffusers:", "expected diffusers:MODEL"),
        ("diffusers:{tmp}", "no pipeline in .*expected model_index.json"),
        ("diffusers:someone/nothing", "tried the folder .* and the hub's 'someone/nothing'"),
        ("diffusers:{model}?stepz=3", "unknown option 'stepz'; .*: batch, compile"),
        ("diffusers:{model}?scheduler=Nothing", "option scheduler expects a class of diffusers, found 'Nothing'"),
        ("diffusers:{model}?dtype=int8", "option dtype expects one of auto, fp32, fp16, bf16"),
    ],
)
def test_the_error_for_a_spec_that_cannot_be_opened_names_the_cause(folder, tmp_path, text, message):
    with pytest.raises(SpecError, match=message):
        open_teacher(text.format(tmp=tmp_path, model=folder))


def test_an_option_that_the_pipeline_does_not_take_is_an_error_before_the_first_call(folder):
    teacher = open_teacher(spec(folder, negative="blurry"))

    class NoNegative:
        def __call__(self, prompt, num_inference_steps, height, width): ...

    with pytest.raises(SpecError, match="NoNegative takes no option negative"):
        teacher._settings(NoNegative())
