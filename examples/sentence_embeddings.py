"""An embedding student for sentence-transformers, distilled on pictures of its pairs.

    python examples/sentence_embeddings.py pairs.jsonl --student minilm

Each line of `pairs.jsonl` has two texts and a score: {"one": "a dog runs", "two": "a puppy", "score": 4.2}. A picture
shows both texts of a pair. The student in `--out` is a folder that stock sentence-transformers loads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def armada(*words: object) -> None:
    """Run a command of armada, as in a shell."""
    subprocess.run([sys.executable, "-m", "pipelines.cli", *map(str, words)], check=True)


def main(words: Sequence[str] | None = None) -> None:
    """Draw the pairs, train an embedding student, and compare the first pairs with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--student", default="minilm")
    parser.add_argument("--teacher", default="pictogram")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--cache", default="pairs-cache")
    parser.add_argument("--out", type=Path, default=Path("sentence-embeddings"))
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args(words)

    rows = [options.pairs, "--text-column", "one,two", "--label-column", "score", "--type", "similarity"]
    kept = ["--teacher", options.teacher, "--encoder", options.encoder, "--cache", options.cache]
    armada("cache", "build", *rows, *kept)
    armada("train", *rows, *kept, "--student", options.student, "--epochs", options.epochs, "--out", options.out)

    from sentence_transformers import SentenceTransformer

    student = SentenceTransformer(str(options.out / "student"))
    texts = ["a good plane", "a fine plane", "my phone is late"]
    vectors = student.encode(texts)  # (3, H), unit length
    for text, cosine in zip(texts[1:], student.similarity(vectors[:1], vectors[1:])[0], strict=True):
        print(f"{texts[0]!r} and {text!r}: {float(cosine):.3f}")


if __name__ == "__main__":
    main()
