"""Rows of a task that no study has seen: of its training rows, in the order of their ids, some after the first ones.

    python benchmarks/fresh_rows.py demo/sentiment benchmarks/fresh-rows --skip 2048 --train 1024 --test 2000
    armada study pipelines/studies/confirm-sentiment.yaml --out study/confirm-sentiment

The test rows of demo/sentiment were looked at by earlier studies, and so were its first 2,048 training rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from distill import find_task, load_splits


def main() -> None:
    """Write train.jsonl and test.jsonl in the columns of the task's card: `text` and the label's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("folder", type=Path)
    for name in ("skip", "train", "test"):
        parser.add_argument(f"--{name}", type=int, required=True)
    said = parser.parse_args()
    card = find_task(said.task)
    rows = load_splits(card).train.first(said.skip + said.train + said.test)
    said.folder.mkdir(parents=True, exist_ok=True)
    for split, first, count in (("train", said.skip, said.train), ("test", said.skip + said.train, said.test)):
        lines = [
            json.dumps({"text": rows.texts[row][0], card.label: card.classes[int(rows.labels[row])]}) + "\n"
            for row in range(first, first + count)
        ]
        (said.folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
