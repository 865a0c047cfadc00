"""The export: a trained student as a plain Hugging Face checkpoint with its body, task head and tokenizer.

It contains no aligner, no pictures and none of the heads that distillation adds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from teacher_cache import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def export_student(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    card: str,
    files: Mapping[str, str] | None = None,
    write: Callable[[PreTrainedModel, Path], None] | None = None,
) -> None:
    """Write a checkpoint that `from_pretrained(folder)` of the stock Auto class loads; `card` is its README.

    `files` are more texts by path, as in TaskModel. `write` writes something else into a folder instead of the model:
    its adapter, or a part of it. The folder is written completely or not at all, and replaces an older one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        with quiet_transformers():
            if write is None:
                model.save_pretrained(draft)
            else:
                write(model, draft)
        tokenizer.save_pretrained(draft)
        (draft / "README.md").write_text(card, "utf-8")
        _write(draft, files or {})
        shutil.rmtree(folder, ignore_errors=True)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save_without(model: PreTrainedModel, folder: Path, module: str) -> None:
    """Write the stock model without the weights of a module, such as a task head that was never trained."""
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith(f"{module}.")}
    model.save_pretrained(folder, state_dict=kept)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        if path.endswith("/"):
            (folder / path).mkdir(exist_ok=True)
        else:
            (folder / path).write_text(text, "utf-8")


def model_card(facts: dict[str, str], pipeline: str = "text-classification", multi_label: bool = False) -> str:
    """Return a short model card: a table of facts, and how to load the student with a pipeline of transformers, or if
    it embeds sentences, with sentence-transformers. With `multi_label`, the pipeline gives the probability of every
    label."""
    options = ", top_k=None" if multi_label else ""
    library, use = (
        "transformers",
        f'from transformers import pipeline\n\nstudent = pipeline("{pipeline}", model="THIS FOLDER"{options})',
    )
    if pipeline == "sentence-similarity":
        library = "sentence-transformers"
        use = """from sentence_transformers import SentenceTransformer

student = SentenceTransformer("THIS FOLDER")
student.similarity(student.encode(["one text"]), student.encode(["another"]))  # their cosine"""
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: {library}
pipeline_tag: {pipeline}
tags: [armada]
---
# A student trained by armada

| | |
|---|---|
{lines}

At inference it needs no picture, no teacher and no aligner.

```python
{use}
```
"""


def adapter_card(facts: dict[str, str], base: str, generates: bool) -> str:
    """Return the model card of an adapter: the same table, and how to load it with peft on its base."""
    kind = "CausalLM" if generates else "SequenceClassification"
    count = "" if generates else ", num_labels=config.num_labels, ignore_mismatched_sizes=True"
    card, _, _ = model_card(facts, "text-generation" if generates else "text-classification").partition("```python")
    facts_only = card.replace("library_name: transformers", "library_name: peft")
    return f"""{facts_only}This folder has the adapters and the task head; peft adds them to {base}.

```python
from peft import AutoPeftModelFor{kind}
from transformers import AutoConfig, AutoTokenizer

config, tokenizer = AutoConfig.from_pretrained("THIS FOLDER"), AutoTokenizer.from_pretrained("THIS FOLDER")
student = AutoPeftModelFor{kind}.from_pretrained("THIS FOLDER"{count})
```
"""
