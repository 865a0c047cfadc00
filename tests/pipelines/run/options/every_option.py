"""An example of every option of `armada train`: a value, what has to be beside it, and what shows that it took effect.

`shows` is "losses" if the metrics log of a run differs from that of the same run without the option; else a key of
run.json that then differs, or the name of a function of test_every_option.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """`{home}` in a value is the folder of the test's files."""

    value: Any
    beside: dict[str, Any] = field(default_factory=dict)
    shows: str = "losses"


LORA = {"lora_rank": 2}
CROSSFIT = {"objective": "crossfit"}
OWN_ROWS = {"rows": "{home}/rows.csv", "data_files": None, "task": None, "control": "undistilled"}
EXAMPLES: dict[str, Example] = {
    "task": Example("demo/sentiment", shows="given"),
    "student": Example("{home}/student", shows="given"),
    "out": Example("{home}/elsewhere", shows="given"),
    "student_revision": Example("v1.0", {"student": "owner/name"}, "loaded"),
    "trust_remote_code": Example(True, shows="loaded"),
    "cache": Example("{home}/no-such-cache", shows="refused"),
    "teacher": Example("tests.fakes:FakeTeacher?style=other", shows="refused"),
    "encoder": Example("tests.fakes:FakeEncoder?version=2", shows="refused"),
    "control": Example("shuffled"),
    "features": Example("{home}/own.parquet", {"cache": None}, "mends"),
    "feature_keys": Example("{home}/keys.txt", {"cache": None, "features": "{home}/named.npy"}, "mends"),
    "data_files": Example("{home}/other", {"control": "undistilled"}),
    "rows": Example("{home}/rows.csv", {"data_files": None, "task": None, "control": "undistilled"}, "mends"),
    "type": Example("regression", OWN_ROWS),
    "text_column": Example("other", OWN_ROWS),
    "label_column": Example("mood", OWN_ROWS),
    "missing": Example("drop", {"cache": None, "features": "{home}/partial.npy"}, "mends"),
    "samples": Example(2),
    "combine": Example("draw", {"samples": 2}),
    "recipe": Example("paper", {"max_steps": 3, "layers": 1, "select": "last", "lr": 1e-2}),
    "layers": Example(1),
    "lora_rank": Example(2),
    "lora_alpha": Example(32.0, LORA),
    "lora_dropout": Example(0.5, LORA),
    "lora_targets": Example("query", LORA),
    "lora_export": Example("adapter", LORA, "adapter"),
    "load_4bit": Example(True, LORA),
    "base_precision": Example("bf16", {**LORA, "precision": "bf16"}),
    "precision": Example("bf16"),
    "gradient_checkpointing": Example(True, shows="gradient_checkpointing"),
    "compile": Example(True, shows="compiled"),
    "eval_batch_size": Example(7, shows="batches"),
    "regression": Example("relu", {"task": "glue/stsb", "data_files": "{home}/scores", "control": "undistilled"}),
    "save_steps": Example(1, shows="saved"),
    "keep": Example(1, {"save_steps": 1}, "saved"),
    "max_local_bytes": Example(100, shows="identity"),
    "track": Example("tensorboard", shows="tracked"),
    "manifold": Example("euclid"),
    "alpha": Example(0.2),
    "beta": Example(0.3),
    "gamma": Example(0.4),
    "temperature": Example(2.0),
    "epochs": Example(2),
    "batch_size": Example(6),
    "accumulate": Example(2),
    "lr": Example(2e-2),
    "schedule": Example("cosine"),
    "weight_decay": Example(0.5),
    "no_decay": Example("biases-and-norms", {"weight_decay": 0.5}),
    "adam_beta1": Example(0.5),
    "adam_beta2": Example(0.5),
    "adam_epsilon": Example(1e-2),
    "warmup": Example(0.9),
    "warmup_steps": Example(2),
    "clip_norm": Example(1e-6, {"adam_epsilon": 1e-3}),
    "label_smoothing": Example(0.2),
    "class_weights": Example("negative=3,neutral=1,positive=1"),
    "dropout": Example(0.5),
    "max_length": Example(8),
    "max_steps": Example(2),
    "by_length": Example(False),
    "select": Example("validation", shows="selected"),
    "early_stopping_patience": Example(1, {"epochs": 4, "lr": 1e-9}),
    "seed": Example(3),
    "objective": Example("armada"),
    "folds": Example(2, CROSSFIT),
    "output_loss": Example("mse", CROSSFIT),
    "contrast": Example(1.0, CROSSFIT),
    "components": Example(2, CROSSFIT),
    "power": Example(1.0, CROSSFIT),
    "balance": Example("all", CROSSFIT),
    "aligner_width": Example(16),
    "aligner_dropout": Example(0.5),
    "aligner_lr": Example(1e-2),
    "aligner_weight_decay": Example(5.0),
    "aligner_rotation": Example("adamw"),
    "aligner_angle": Example(0.5),
    "aligner_batch_size": Example(8),
    "aligner_clip_norm": Example(1e-6),
}
