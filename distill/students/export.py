"""The export: a trained student as a plain Hugging Face checkpoint with its body, task head and tokenizer.

It contains no aligner, no pictures and none of the heads that distillation adds.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from teacher_cache import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def export_student(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, card: str, without: str | None = None
) -> None:
    """Write a checkpoint that `from_pretrained(folder)` of the stock Auto class loads; `card` is its README.

    `without` names a module whose weights are left out, such as a task head that was never trained.
    The folder is written completely or not at all, and replaces an older one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        with quiet_transformers():
            kept = model.state_dict()
            if without:
                kept = {name: value for name, value in kept.items() if not name.startswith(f"{without}.")}
            model.save_pretrained(draft, state_dict=kept)
        tokenizer.save_pretrained(draft)
        (draft / "README.md").write_text(card, "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def model_card(facts: dict[str, str], pipeline: str = "text-classification") -> str:
    """Return a short model card: a table of facts, and how to load the student with a pipeline of transformers."""
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: transformers
pipeline_tag: {pipeline}
tags: [armada]
---
# A student trained by armada

| | |
|---|---|
{lines}

At inference it needs no picture, no teacher and no aligner.

```python
from transformers import pipeline

student = pipeline("{pipeline}", model="THIS FOLDER")
```
"""
