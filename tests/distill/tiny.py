"""Tiny random checkpoints with real tokenizers: students of every family that train in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.tasks.splits import Split
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
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
PARTS: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 0,
}


def save_student(folder: Path, kind: str = "bert", layers: int = 1, **changes: Any) -> Path:
    """A random encoder of a transformers model type, with a word tokenizer that tells its fields apart by [SEP]."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32)
    if kind not in ("bert", "deberta", "deberta-v2", "electra", "albert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    settings = {
        "num_hidden_layers": layers,
        "max_position_embeddings": 32 + 2 * (kind in ("roberta", "mpnet")),
        **PARTS,
    }
    settings |= {"type_vocab_size": 1} if kind == "roberta" else {}
    if kind.startswith("deberta"):
        settings |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pooler_hidden_size": 16}
        settings |= {"type_vocab_size": 2}
    settings |= {"embedding_size": 16} if kind in ("electra", "albert") else {}
    settings |= {"hidden_dim": 32} if kind == "distilbert" else {}
    if kind == "modernbert":
        settings |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        settings |= {"global_attn_every_n_layers": 2, "local_attention": 8}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**settings, **changes})
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def save_decoder(
    folder: Path, kind: str = "llama", layers: int = 1, causal: bool = False, pad: str | None = None, **changes: Any
) -> Path:
    """A random decoder with a word tokenizer; without `pad` it has no padding token, as LLaMA's checkpoints."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        PreTrainedTokenizerFast as Fast,
    )

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["<pad>", "<unk>", "<s>", "</s>", *"0123456789", *WORDS]
    words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Fast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=pad, model_max_length=32
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if kind == "t5":  # reads the state at the end token
        words.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 3)])
        tokenizer = Fast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    settings = {
        **PARTS,
        "vocab_size": len(vocabulary),
        "num_hidden_layers": layers,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0 if pad else None,
    }
    if kind == "opt":
        settings |= {"ffn_dim": 32, "word_embed_proj_dim": 8}
    if kind in ("qwen3", "gemma", "gemma2"):
        settings |= {"head_dim": 8}
    if kind == "gpt_neo":
        settings |= {"attention_types": [[["global"], layers]]}
    if kind == "t5":
        settings |= {"d_kv": 8, "d_ff": 32, "decoder_start_token_id": 0, "pad_token_id": 0}
        del settings["max_position_embeddings"]
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
    auto.from_config(AutoConfig.for_model(kind, **{**settings, **changes})).save_pretrained(folder)
    return folder


def split(rows: int, labels: int = 3) -> Split:
    """Rows of a few words; the first word decides the label."""
    texts = []
    for row in range(rows):
        words = [WORDS[row % len(WORDS)], *(WORDS[(row * k + k) % len(WORDS)] for k in range(1, 2 + row % 5)), str(row)]
        texts.append(" ".join(words))
    return Split([prompt_key(t) for t in texts], [(t,) for t in texts], texts, [row % labels for row in range(rows)])
