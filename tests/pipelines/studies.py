"""Tiny tasks and studies with the fake teacher and encoder: a few rows, one layer, seconds long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.distill.tiny import save_student


def write_card(folder: Path) -> Path:
    """Write a card with the columns and classes of demo/sentiment and 240 rows of its own, and return its path."""
    classes = ("negative", "neutral", "positive")
    rows = [f"{('bad', 'late', 'good')[i % 3]} {('plane', 'phone')[i % 2]} {i},{classes[i % 3]}" for i in range(240)]
    (folder / "own.csv").write_text("text,sentiment\n" + "\n".join(rows) + "\n")
    card = {
        "name": "sentiment",
        "title": "Sentiment of short texts",
        "type": "classification",
        "source": {"data": "own.csv"},
        "text": ["{text}"],
        "label": "sentiment",
        "labels": list(classes),
        "prompt": "{text}",
        "split": {"train": 60, "validation": 10, "test": 30},
        "metrics": ["accuracy", "macro_f1"],
    }
    path = folder / "sentiment.yaml"
    path.write_text(yaml.safe_dump(card, sort_keys=False), "utf-8")
    return path


def write_study(folder: Path, **changes: Any) -> Path:
    """Write a study file that trains a tiny student on 24 rows of `write_card`, and return its path."""
    study = {
        "name": "tiny",
        "question": "Do pictures of <b>noise</b> help?",
        "task": str(write_card(folder)),
        "student": str(save_student(folder / "student")),
        "teacher": "tests.fakes:FakeTeacher",
        "encoder": "tests.fakes:FakeEncoder",
        "rows": {"train": 24, "test": 40},
        "seeds": [0, 1],
        "settings": {"epochs": 2, "batch_size": 8, "lr": 0.01},
        "arms": {
            "undistilled": {"control": "undistilled"},
            "relational": {"manifold": "relational"},
            "shuffled": {"control": "shuffled"},
        },
        "readouts": {
            "probe": True,
            "few_shot": {"labelled": 8, "arms": ["undistilled", "relational"], "pretraining": {"epochs": 1}},
        },
        "primary": {"arm": "relational", "against": ["undistilled", "shuffled"], "margin": 0.01},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**study, **changes}, sort_keys=False), "utf-8")
    return path
