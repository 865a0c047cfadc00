"""The trained student as a plain Hugging Face checkpoint: encoder, pooler, task head and tokenizer. No aligner, no
picture, none of the added heads.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from teacher_cache import quiet_transformers


def export_student(model: Any, tokenizer: Any, folder: Path, card: str) -> None:
    """Write the checkpoint whole: stock `AutoModelForSequenceClassification.from_pretrained(folder)` loads it."""
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


def model_card(facts: dict[str, str], pipeline: str = "text-classification") -> str:
    """A short card: what it is, how it was trained, how to load it by a pipeline of transformers."""
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
