"""ARMADA in your own training script: transformers' Trainer, a stock classifier, and the pictures of a cache.

    armada cache build rows.csv --text-column text --label-column label \\
        --teacher pictogram --encoder efficientnet-lite0 --cache ./cache
    python examples/own_trainer.py rows.csv ./cache --student sentence-transformers/all-MiniLM-L6-v2

`rows.csv` has the columns `text` and `label`. Every text needs a picture in the cache; if one lacks it, the error names
the command that draws it. The student in `--out` is a plain checkpoint, without anything that distillation added.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from distill import DistilledModel, targets_from_cache
from teacher_cache import read_csv


def main(words: Sequence[str] | None = None) -> None:
    """Train a student on the rows of a file and on the pictures of their texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("cache")
    parser.add_argument("--student", required=True, help="a folder or a hub id")
    parser.add_argument("--out", type=Path, default=Path("own-trainer"))
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args(words)

    rows = read_csv(options.rows, ["text", "label"])
    texts = [row["text"].strip() for row in rows]
    names = sorted({row["label"] for row in rows})
    labels = [names.index(row["label"]) for row in rows]

    targets = targets_from_cache(options.cache, texts, labels, options.epochs)  # trains the aligner once and keeps it
    student = AutoModelForSequenceClassification.from_pretrained(options.student, num_labels=len(names))
    model = DistilledModel(student, targets)

    tokenizer = AutoTokenizer.from_pretrained(options.student)
    data = {**tokenizer(texts, truncation=True), "labels": labels, "row": list(range(len(texts)))}
    arguments = TrainingArguments(
        str(options.out / "trainer"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=32,
        learning_rate=5e-5,
        remove_unused_columns=False,  # `row` says which picture belongs to a row
        save_strategy="no",
        report_to=[],
    )
    Trainer(
        model,
        arguments,
        train_dataset=Dataset.from_dict(data),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[model.callback],  # tells the model which epoch it is in
    ).train()
    model.student.save_pretrained(options.out / "student")
    tokenizer.save_pretrained(options.out / "student")
    print(f"trained on {len(texts)} texts; the student is in {options.out / 'student'}")


if __name__ == "__main__":
    main()
