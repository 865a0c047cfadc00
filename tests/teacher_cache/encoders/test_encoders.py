"""Every encoder with its real library and a tiny model: features equal the library's, and keys depend on content."""

import io
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from teacher_cache import (
    MissingPackageError,
    SpecError,
    build,
    choose,
    minilm_folder,
    open_encoder,
    open_features,
    source_of_encoder,
)
from teacher_cache.maintenance.recomputation import recompute
from teacher_cache.registry.packages import import_package
from tests import fakes
from tests.teacher_cache.tiny_models import save_open_clip, save_stable_diffusion, save_tower

PICTURES = [fakes.png(row, 40) for row in range(5)]
PROMPTS = ["a cat", "a dog on a boat", "rain", "two red cars", "snow in the town at night"]
TOWERS = ("clip", "dinov2", "siglip", "vit", "vit-classifier")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with all tiny models and MiniLM."""
    folder = tmp_path_factory.mktemp("models")
    save_open_clip(folder)
    for kind in TOWERS:
        save_tower(folder / kind, kind)
    save_stable_diffusion(folder / "sd")
    shutil.copytree(minilm_folder(), folder / "minilm")
    return folder


SPECS = {
    "open_clip": "open_clip:tiny/{home}/weights-0.pt?config={home}/tiny.json",
    "clip": "transformers:{home}/clip?pool=projected",
    "dinov2": "transformers:{home}/dinov2?pool=mean",
    "siglip": "transformers:{home}/siglip?pool=pooled",
    "vit": "transformers:{home}/vit?pool=cls",
    "sd": "sd-latent:{home}/sd?steps=4",
    "vae": "vae-latent:{home}/sd?size=64",
    "text": "text:{home}/minilm?tokens=16",
}
each = pytest.mark.parametrize("name", SPECS)


def opened(name, home, options=""):
    return open_encoder(SPECS[name].format(home=home) + options)


def images():
    return [Image.open(io.BytesIO(picture)).convert("RGB") for picture in PICTURES]


def digest(encoder):
    return source_of_encoder(encoder).digest


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


def test_open_clip_features_equal_those_of_the_library(home):
    import open_clip

    open_clip.add_model_config(home / "tiny.json")
    model, _, transform = open_clip.create_model_and_transforms("tiny", pretrained=str(home / "weights-0.pt"))
    with torch.inference_mode():
        expected = model.eval().encode_image(torch.stack([transform(image) for image in images()]))
    encoder = opened("open_clip", home)
    assert np.allclose(encoder.encode(PICTURES, PROMPTS), expected, atol=1e-5)
    assert encoder.spec["preprocessing"]["interpolation"] == "bicubic"


def test_an_open_clip_tag_determines_preprocessing_and_activation(home, monkeypatch):
    import open_clip

    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: home / "weights-0.pt")
    openai = open_encoder("open_clip:ViT-B-32/openai")
    assert (openai.dimension, openai.spec["quick_gelu"]) == (512, True)
    assert digest(openai) == digest(open_encoder("open_clip:ViT-B-32-quickgelu/openai"))
    assert open_encoder("open_clip:ViT-B-32/laion2b_s34b_b79k").spec["quick_gelu"] is False
    siglip = open_encoder("open_clip:ViT-B-16-SigLIP/webli").spec["preprocessing"]
    assert (siglip["mean"], siglip["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


def test_an_open_clip_config_may_define_the_preprocessing(home, tmp_path):
    facts = {"model_cfg": json.loads((home / "tiny.json").read_text()), "preprocess_cfg": {"resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(facts))
    encoder = open_encoder(f"open_clip:tiny/{home}/weights-0.pt?config={tmp_path}/open_clip_config.json")
    assert encoder.spec["preprocessing"]["resize_mode"] == "squash"
    assert encoder.encode(PICTURES, PROMPTS).shape == (5, 24)


def test_open_clip_weights_of_another_architecture_are_refused(home):
    with pytest.raises(SpecError, match=r"weights-0.pt contains no weights of this architecture: "):
        open_encoder(f"open_clip:ViT-B-32/{home}/weights-0.pt").encode(PICTURES, PROMPTS)


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("pool", ["pooled", "cls", "mean", "projected"])
def test_transformers_features_equal_those_of_the_library(kind, pool, home):
    from transformers import AutoImageProcessor, AutoModel

    text = f"transformers:{home}/{kind}?pool={pool}"
    if pool == "projected" and kind != "clip":
        with pytest.raises(SpecError, match=r"\w+ has no pool=projected; expected pool=pooled\|"):
            open_encoder(text)
        return
    if pool == "cls" and kind == "siglip":
        with pytest.raises(SpecError, match=r"siglip_vision_model has no pool=cls; expected pool=pooled\|mean"):
            open_encoder(text)
        return
    if pool == "pooled" and kind == "vit-classifier":
        with pytest.raises(SpecError, match=r"no weights for the pooler .*which would be random; use pool=cls"):
            open_encoder(text).encode(PICTURES, PROMPTS)
        return
    model = AutoModel.from_pretrained(home / kind).eval()
    pixels = AutoImageProcessor.from_pretrained(home / kind)(images=images(), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        output = getattr(model, "vision_model", model)(pixel_values=pixels)
        states = output.last_hidden_state
        expected = {
            "pooled": output.pooler_output,
            "cls": states[:, 0],
            "mean": states[:, 0 if kind == "siglip" else 1 :].mean(1),
            "projected": model.get_image_features(pixel_values=pixels).pooler_output if kind == "clip" else None,
        }[pool]
    assert np.allclose(open_encoder(text).encode(PICTURES, PROMPTS), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "lost"), [("vit", "encoder.layer.0"), ("siglip", "head."), ("clip", "layers.1")])
def test_a_checkpoint_that_lacks_weights_is_refused(kind, lost, home, tmp_path):
    shutil.copytree(home / kind, tmp_path / kind)
    path = tmp_path / kind / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if lost not in name or "text_model" in name}
    assert len(kept) < len(load_file(path))
    save_file(kept, path, {"format": "pt"})
    message = "use pool=mean" if kind == "siglip" else "lacks .* weights, among them .*; they would be random"
    with pytest.raises(SpecError, match=message):
        open_encoder(f"transformers:{tmp_path / kind}").encode(PICTURES, PROMPTS)


def test_the_latent_has_the_settings_of_the_paper_and_equals_the_librarys(home):
    from diffusers import StableDiffusionImg2ImgPipeline

    encoder = open_encoder(f"sd-latent:{home}/sd")
    assert {name: encoder.spec[name] for name in ("steps", "strength", "guidance", "size", "dimension")} == {
        "steps": 20,
        "strength": 0.75,
        "guidance": 7.5,
        "size": 128,
        "dimension": 1024,
    }
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(home / "sd")
    seed = encoder.prepare(PICTURES[1], PROMPTS[1])[2]
    latent = pipeline(
        PROMPTS[1],
        images()[1].resize((128, 128)),
        strength=0.75,
        guidance_scale=7.5,
        num_inference_steps=20,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
    ).images
    assert np.allclose(encoder.encode(PICTURES, PROMPTS)[1], latent.flatten(), atol=1e-3)


def test_the_latent_depends_on_picture_and_prompt(home):
    encoder = opened("sd", home)
    features = encoder.encode([PICTURES[0], PICTURES[0], PICTURES[1]], ["a", "b", "a"])
    assert len({encoder.prepare(*pair)[2] for pair in zip(PICTURES[:2] * 2, "aabb", strict=True)}) == 4
    assert min(np.abs(features[0] - features[1]).max(), np.abs(features[0] - features[2]).max()) > 0.1


def test_the_autoencoders_latent_equals_the_librarys_and_its_own_folder_has_the_same_key(home):
    from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline

    vae = AutoencoderKL.from_pretrained(home / "sd" / "vae")
    processor = StableDiffusionImg2ImgPipeline.from_pretrained(home / "sd").image_processor
    pixels = processor.preprocess([image.resize((64, 64)) for image in images()])
    with torch.inference_mode():
        expected = vae.encode(pixels).latent_dist.mean.flatten(1) * vae.config.scaling_factor
    assert np.allclose(opened("vae", home).encode(PICTURES, PROMPTS), expected, atol=1e-5)
    assert digest(open_encoder(f"vae-latent:{home}/sd/vae?size=64")) == digest(opened("vae", home))


def test_the_text_control_is_the_prompts_sentence_embedding_and_ignores_the_picture(home):
    from sentence_transformers import SentenceTransformer

    encoder = open_encoder("text:minilm?unit_norm=true")
    features = encoder.encode([b""] * 5, PROMPTS)
    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(PROMPTS, normalize_embeddings=True)
    assert np.allclose(features, expected, atol=1e-5)
    assert digest(open_encoder("text:minilm")) == digest(open_encoder(f"text:{home}/minilm"))


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
    (again,) = [result for result in recompute(cache, 5) if result.source == source.name]
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
