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


def export_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, card: str) -> None:
    """Write a checkpoint that `from_pretrained(folder)` of the stock Auto class loads; `card` is its README.

    The folder is written completely or not at all, and replaces an older one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        with quiet_transformers():
            model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        (draft / "README.md").write_text(card, "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def model_card(facts: dict[str, str], pipeline: str = "text-classification", multi_label: bool = False) -> str:
    """Return a short model card: a table of facts, and how to load the student with a pipeline of transformers. With
    `multi_label`, the pipeline gives the probability of every label."""
    options = ", top_k=None" if multi_label else ""
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

student = pipeline("{pipeline}", model="THIS FOLDER"{options})
```
"""
