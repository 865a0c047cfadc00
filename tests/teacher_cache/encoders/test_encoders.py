"""What holds for every encoder, shown with its real library and a tiny model: batches, keys, precision, errors."""

import shutil
import sys

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from teacher_cache import (
    MissingPackageError,
    SpecError,
    build,
    choose,
    open_encoder,
    open_features,
)
from teacher_cache.maintenance.recomputation import recompute
from teacher_cache.registry.packages import import_package
from tests import fakes
from tests.teacher_cache.encoders.tiny_encoders import PICTURES, PROMPTS, SPECS, digest, opened
from tests.teacher_cache.tiny_models import save_open_clip

each = pytest.mark.parametrize("name", SPECS)


@each
def test_a_feature_depends_neither_on_its_batch_nor_on_the_order(name, home):
    encoder = opened(name, home)
    together = encoder.encode(PICTURES, PROMPTS)
    assert together.shape == (5, encoder.dimension)
    assert (together.dtype, encoder.spec["unit_norm"]) == (np.float32, False)
    order = [4, 2, 0, 3, 1]
    alone = np.concatenate([encoder.encode([PICTURES[row]], [PROMPTS[row]]) for row in order])
    assert np.abs(together[order] - alone).max() < 1e-4 * np.abs(together).max()
    assert len(np.unique(together.round(4), axis=0)) == 5


@each
def test_path_batch_and_device_change_no_key_and_other_weights_do(name, home, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(home, moved)
    assert digest(opened(name, moved, "&batch=3&device=cpu")) == digest(opened(name, home))
    part = {"open_clip": "weights-0.pt", "sd": "sd/unet", "vae": "sd/vae", "text": "minilm"}.get(name, name)
    for path in [moved / part, *(moved / part).rglob("*.safetensors")]:
        if path.suffix == ".safetensors":
            weights = load_file(path)
            next(iter(weights.values())).view(-1)[0] += 1
            save_file(weights, path, {"format": "pt"})
    if name == "open_clip":
        save_open_clip(moved, seed=1)[1].rename(moved / "weights-0.pt")
    assert digest(opened(name, moved)) != digest(opened(name, home))


@each
def test_unit_norm_and_precision_are_part_of_the_spec(name, home):
    plain, unit = opened(name, home), opened(name, home, "&unit_norm=true&precision=fp32")
    assert (unit.spec["unit_norm"], unit.spec["precision"]) == (True, "fp32")
    features = unit.encode(PICTURES[:2], PROMPTS[:2])
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    expected = plain.encode(PICTURES[:2], PROMPTS[:2])
    assert np.allclose(features, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_bf16_is_close_to_fp32_and_has_another_key(home):
    exact, rounded = opened("open_clip", home), opened("open_clip", home, "&precision=bf16")
    difference = np.abs(exact.encode(PICTURES, PROMPTS) - rounded.encode(PICTURES, PROMPTS)).max()
    assert 0 < difference < 0.1
    assert digest(exact) != digest(rounded)


def test_a_hub_id_in_the_local_cache_has_the_same_key_as_its_folder(home, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / ("c" * 40)
    shutil.copytree(home / "vit", snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    encoder = open_encoder("transformers:someone/tiny?pool=cls")
    assert digest(encoder) == digest(opened("vit", home))
    with pytest.raises(SpecError, match=r"tried the folder .*someone/other and the hub's 'someone/other'"):
        open_encoder("transformers:someone/other")


def test_the_digest_of_a_large_file_in_the_hubs_cache_is_its_name(tmp_path):
    from teacher_cache.registry.pretrained import weights_digest

    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ("ab" * 32)).write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / ("ab" * 32))
    assert weights_digest(tmp_path / "model.safetensors") == "ab" * 32


def test_a_cache_is_built_and_recomputed_with_a_real_encoder(cache, home):
    encoder = opened("open_clip", home, "&batch=2")
    report = build(cache, PROMPTS, fakes.teacher(), encoder)
    assert (report.drawn, report.encoded, report.features_refused) == (5, 5, 0)
    teacher, source = choose(cache, None, None)
    assert source.spec["kind"] == "open_clip"
    assert open_features(cache, teacher, source).matrix.shape == (5, 24)
    assert build(cache, PROMPTS, fakes.teacher(), opened("open_clip", home)).encoded == 0
    (again,) = [result for result in recompute(cache, 5, (), [encoder]) if result.source == source.name]
    assert (again.asked, again.differing) == (5, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("open_clip:ViT-B-32", "expected open_clip:ARCH/PRETRAINED"),
        ("open_clip:ViT-B-33/openai", "no architecture 'ViT-B-33'; similar names: .*ViT-B-32"),
        ("open_clip:ViT-B-32/no-such", "no weights found; tried the file .*no-such and the tags of ViT-B-32: openai, "),
        ("open_clip:ViT-B-32/openai?config=no.json", "config=no.json: expected JSON with embed_dim"),
        ("transformers:", "expected transformers:MODEL, a folder or a hub id"),
        ("transformers:{home}/sd/vae", "no weights in .*; looked for model.safetensors or pytorch_model.bin"),
        ("transformers:{home}/minilm", "expected one of clip, .*, found bert"),
        ("transformers:{home}/vit?pool=max", "option pool expects one of pooled, cls, mean, projected, found 'max'"),
        ("sd-latent:{home}/clip", "no weights in .*; looked for unet/diffusion_pytorch_model.safetensors"),
        ("sd-latent:{home}/sd?strength=0", "expected 0 < strength <= 1"),
        ("sd-latent:{home}/sd?size=100", "option size expects a multiple of 8 for this model, found 100"),
        ("vae-latent:{home}/clip", "no weights in"),
        ("text:{home}/vit", "no text model in"),
        ("text:minilm?tokens=513", "option tokens expects 1 to 512 for this model, found 513"),
        ("text:minilm?device=gpu", "option device: Expected one of cpu, cuda"),
        ("text:minilm?batch=-1", "option batch expects a number of pictures, found -1"),
        ("text:minilm?sise=1", "unknown option 'sise'; .*: batch, device, precision"),
    ],
)
def test_the_error_for_a_bad_spec_lists_what_was_tried_or_expected(text, message, home):
    with pytest.raises(SpecError, match=message):
        open_encoder(text.format(home=home))


@pytest.mark.parametrize(
    ("module", "text", "line"),
    [
        ("open_clip", "open_clip:ViT-B-32/openai", "pip install open_clip_torch"),
        ("diffusers", "sd-latent:x", "the encoder sd-latent needs the package diffusers: pip install diffusers"),
        ("transformers", "text:minilm", "pip install transformers"),
    ],
)
def test_the_error_for_a_missing_package_contains_the_command_that_installs_it(module, text, line, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=line):
        open_encoder(text)


def test_the_error_names_the_missing_dependency_of_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_package.part")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError, match="an encoder needs the package no_such_package: pip install no_such"):
        import_package("half_installed", distribution="half-installed", extra="demo", purpose="an encoder")
