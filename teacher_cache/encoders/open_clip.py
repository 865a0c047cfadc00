"""OpenCLIP's image towers, with the weights of a pretrained tag or of a file, in an architecture of the library or of
the user.

Weights run with the activation function that they were trained with: OpenAI's tags get QuickGELU, about which open_clip
only warns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.encoders.model_types import ImageTower
from teacher_cache.errors import SpecError
from teacher_cache.format.pixels import open_picture
from teacher_cache.registry.packages import import_package
from teacher_cache.registry.pretrained import brief, weights_digest
from teacher_cache.registry.specs import Spec

if TYPE_CHECKING:
    from torch import Tensor


class OpenClip(ModelEncoder[ImageTower, "Tensor"]):
    """`open_clip:ARCH/PRETRAINED[?config=FILE.json]`: PRETRAINED is a tag or a weights file. FILE.json describes an
    architecture of the user, in the format of open_clip's model configs or of an open_clip_config.json."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"config": ""})
        architecture, _, pretrained = spec.model.partition("/")
        if not pretrained:
            raise SpecError(f"{spec.text}: expected open_clip:ARCH/PRETRAINED, as in open_clip:ViT-B-32/openai")
        open_clip = import_package("open_clip", distribution="open_clip_torch", purpose="the encoder open_clip")
        self._open_clip = open_clip
        transform = import_package("open_clip.transform", distribution="open_clip_torch", purpose="open_clip")
        config, preprocessing = _architecture(spec, architecture, self._options["config"], open_clip)
        tag = open_clip.get_pretrained_cfg(architecture, pretrained)
        if tag and not Path(pretrained).is_file():
            preprocessing = {**preprocessing, **tag}
            config["quick_gelu"] = config.get("quick_gelu", False) or tag.get("quick_gelu", False)
        self._weights = _weights(spec, architecture, pretrained, tag, open_clip)
        self._config = config
        size = config["vision_cfg"].get("image_size", 224)
        self._preprocessing = transform.merge_preprocess_dict(
            transform.PreprocessCfg(), {**preprocessing, "size": size}
        )
        self._transform = transform.image_transform_v2(transform.PreprocessCfg(**self._preprocessing), is_train=False)
        self.dimension = config["embed_dim"]
        self.spec = self._full_spec(
            {
                "kind": "open_clip",
                "weights_sha256": weights_digest(self._weights),
                "architecture": config["vision_cfg"],
                "quick_gelu": config.get("quick_gelu", False),
                "preprocessing": self._preprocessing,
                "pooling": "projected",
            }
        )

    def _load(self) -> ImageTower:
        """Load the model from a folder with config and weights, the form that open_clip accepts for every
        architecture."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            facts = {"model_cfg": self._config, "preprocess_cfg": self._preprocessing}
            (folder / "open_clip_config.json").write_text(json.dumps(facts), "utf-8")
            safe = self._weights.suffix == ".safetensors"
            link = folder / ("open_clip_model.safetensors" if safe else "open_clip_pytorch_model.bin")
            link.symlink_to(self._weights.absolute())
            try:
                model = self._open_clip.create_model(f"local-dir:{folder}", device=self.device, require_pretrained=True)
            except (RuntimeError, ValueError, AssertionError, UnpicklingError) as error:
                raise SpecError(
                    f"{self._text}: {self._weights} contains no weights of this architecture: {brief(error)}"
                ) from None
        tower: ImageTower = model.eval()
        return tower

    def prepare(self, picture: bytes, prompt: str) -> Tensor:
        """Return the pixels (3, S, S) float32 that open_clip's own transform computes. The prompt is ignored."""
        pixels: Tensor = self._transform(open_picture(picture))
        return pixels

    def _forward(self, prepared: Sequence[Tensor]) -> Tensor:
        import torch

        return self._model.encode_image(torch.stack(list(prepared)).to(self.device))


def _architecture(spec: Spec, name: str, file: str, open_clip: ModuleType) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the model's config, and the part of its preprocessing that the config file states.

    Raises SpecError if open_clip has no such architecture or the file is no config.
    """
    if not file:
        config = open_clip.get_model_config(name)
        if config is None:
            near = get_close_matches(name, open_clip.list_models(), n=8, cutoff=0.3)
            raise SpecError(f"{spec.text}: open_clip has no architecture {name!r}; similar names: {', '.join(near)}")
        return config, {}
    try:
        facts = json.loads(Path(file).read_text("utf-8"))
        config, preprocessing = facts.get("model_cfg", facts), facts.get("preprocess_cfg", {})
        _ = config["embed_dim"], config["vision_cfg"].keys(), config["text_cfg"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpecError(
            f"{spec.text}: config={file}: expected JSON with embed_dim, vision_cfg and text_cfg, found {error!r}"
        ) from None
    return config, preprocessing


def _weights(spec: Spec, architecture: str, pretrained: str, tag: Mapping[str, Any], open_clip: ModuleType) -> Path:
    """Return the weights file, which is downloaded for a tag. Raises SpecError if there is no such file or tag."""
    if Path(pretrained).is_file():
        return Path(pretrained)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise SpecError(
            f"{spec.text}: no weights found; tried the file {Path(pretrained).absolute()} and the tags of "
            f"{architecture}: {tags}"
        )
    try:
        return Path(open_clip.download_pretrained(tag))
    except (OSError, RuntimeError, ValueError) as error:
        raise SpecError(
            f"{spec.text}: open_clip cannot download {tag.get('hf_hub') or tag.get('url')}: {brief(error)}; "
            f"on a machine without network, name the weights file: open_clip:{architecture}/FILE"
        ) from None
