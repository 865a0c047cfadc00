"""A tiny random BERT with a real tokenizer, saved as a checkpoint: a student that trains in milliseconds."""

from __future__ import annotations

from pathlib import Path

from distill.splits import Split
from teacher_cache import prompt_key

WORDS = [
    "good",
    "bad",
    "fine",
    "awful",
    "plane",
    "phone",
    "late",
    "early",
    "love",
    "hate",
    "the",
    "a",
    "is",
    "was",
    "my",
    "very",
]


def save_student(folder: Path) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def split(rows: int, labels: int = 3) -> Split:
    """Rows of a few words; the first word decides the label."""
    texts = []
    for row in range(rows):
        words = [WORDS[row % len(WORDS)], *(WORDS[(row * k + k) % len(WORDS)] for k in range(1, 2 + row % 5)), str(row)]
        texts.append(" ".join(words))
    return Split([prompt_key(t) for t in texts], [(t,) for t in texts], texts, [row % labels for row in range(rows)])
