"""OpenCLIP's picture towers: a pretrained tag, or a weights file, in one of the library's architectures or one's own.

Weights run in the activation that they were trained with: a tag of OpenAI's gets QuickGELU, which open_clip only warns
about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

from teacher_cache.encoders.model_encoder import ModelEncoder, decode
from teacher_cache.errors import SpecError
from teacher_cache.registry.packages import import_package
from teacher_cache.registry.pretrained import brief, weights_digest
from teacher_cache.registry.specs import Spec


class OpenClip(ModelEncoder):
    """`open_clip:ARCH/PRETRAINED[?config=FILE.json]`: PRETRAINED is a tag or a weights file; the JSON is one's own
    architecture, in the form of open_clip's model configs or of an open_clip_config.json."""

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
        self.spec = self._stated(
            {
                "kind": "open_clip",
                "weights_sha256": weights_digest(self._weights),
                "architecture": config["vision_cfg"],
                "quick_gelu": config.get("quick_gelu", False),
                "preprocessing": self._preprocessing,
                "pooling": "projected",
            }
        )

    def _load(self) -> Any:
        """Built from a folder of the config and the weights, the form in which open_clip takes every architecture."""
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
                raise SpecError(f"{self._text}: {self._weights} holds no such model: {brief(error)}") from None
        return model.eval()

    def prepare(self, picture: bytes, prompt: str) -> Any:
        """Pixels (3, S, S) float32 by open_clip's own transform; the prompt is not looked at."""
        return self._transform(decode(picture))

    def _forward(self, prepared: Sequence[Any]) -> Any:
        import torch

        return self._model.encode_image(torch.stack(list(prepared)).to(self.device))


def _architecture(spec: Spec, name: str, file: str, open_clip: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's config and what is known of its preprocessing."""
    if not file:
        config = open_clip.get_model_config(name)
        if config is None:
            near = get_close_matches(name, open_clip.list_models(), n=8, cutoff=0.3)
            raise SpecError(f"{spec.text}: open_clip has no architecture {name!r}; near it are: {', '.join(near)}")
        return config, {}
    try:
        facts = json.loads(Path(file).read_text("utf-8"))
        config, preprocessing = facts.get("model_cfg", facts), facts.get("preprocess_cfg", {})
        _ = config["embed_dim"], config["vision_cfg"].keys(), config["text_cfg"].keys()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise SpecError(
            f"{spec.text}: config={file}: expected JSON with embed_dim, vision_cfg and text_cfg, found {error!r}"
        ) from None
    return config, preprocessing


def _weights(spec: Spec, architecture: str, pretrained: str, tag: Any, open_clip: Any) -> Path:
    """The weights file, fetched if it is a tag's."""
    if Path(pretrained).is_file():
        return Path(pretrained)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise SpecError(
            f"{spec.text}: no weights there; tried the file {Path(pretrained).absolute()} and the tags of "
            f"{architecture}: {tags}"
        )
    try:
        return Path(open_clip.download_pretrained(tag))
    except (OSError, RuntimeError, ValueError) as error:
        raise SpecError(
            f"{spec.text}: open_clip can't fetch {tag.get('hf_hub') or tag.get('url')}: {brief(error)}; "
            f"on a machine without network, give the weights file: open_clip:{architecture}/FILE"
        ) from None
