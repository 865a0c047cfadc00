"""Students that nobody trained: `random-bert-LAYERS?hidden=128&heads=4`, a BERT with MiniLM's tokenizer and weights
drawn from the run's seed.

It knows no word, so a teacher that finds its pictures by a trained student's embedding can't teach it that embedding.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from teacher_cache import ArmadaError

NAME = re.compile(r"random-bert-(?P<layers>[1-9]\d?)(\?(?P<options>.*))?")


def is_random(name: str) -> bool:
    """Whether a student's name is of this kind."""
    return name.startswith("random-bert-")


def reshape(config: Any, name: str) -> None:
    """Give a BERT's config the size that a name says. Raises ArmadaError."""
    found = NAME.fullmatch(name)
    options = dict(parse_qsl(found["options"] or "", keep_blank_values=True)) if found else {}
    sizes = {"hidden": 128, **{key: int(value) if value.isdigit() else 0 for key, value in options.items()}}
    sizes.setdefault("heads", max(1, sizes["hidden"] // 32))
    if not found or set(sizes) != {"hidden", "heads"} or min(sizes.values()) < 1 or sizes["hidden"] % sizes["heads"]:
        raise ArmadaError(
            f"{name}: expected random-bert-LAYERS?hidden=H&heads=N with H a multiple of N, for example "
            "random-bert-2?hidden=128"
        )
    config.num_hidden_layers = int(found["layers"])
    config.hidden_size, config.num_attention_heads = sizes["hidden"], sizes["heads"]
    config.intermediate_size = 4 * sizes["hidden"]
