"""The positive control of the studies: a task whose labels are often wrong, and a teacher whose pictures are not.

A text lists seven words, of which four belong to one of four kinds and one to each of the others. Its answer is the
kind of the four. Of the training labels half are drawn at random; test labels are right. The teacher
`benchmarks.planted:Kinds` draws each text in the colour and the shape of its right answer, so that its pictures carry
what the labels hide. A study that does not find this teacher would find none.

    python benchmarks/planted.py benchmarks/planted-rows     # train.jsonl, test.jsonl: the same rows everywhere
    armada study pipelines/studies/map-planted.yaml --out study/map-planted
"""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from teacher_cache import Failure, Picture, Request
from teacher_cache.registry.specs import Spec

KINDS = {
    "animal": "otter eagle badger salmon weasel falcon lizard donkey rabbit pigeon beetle camel goat moose hyena squid "
    "panther turtle spider heron wolf mouse sheep crab gecko lynx stork trout bison viper",
    "food": "bread cheese noodle lemon carrot butter pepper onion pudding honey mustard walnut cherry biscuit garlic "
    "spinach yogurt sausage pancake rice melon olive cabbage almond jam soup waffle radish peach curry",
    "vehicle": "truck ferry tractor bicycle sledge canoe rocket scooter tram wagon yacht lorry taxi bus glider barge "
    "kayak train van submarine helicopter motorcycle balloon raft airplane cart jeep tanker ambulance trolley",
    "tool": "hammer chisel wrench shovel drill saw pliers ladder rake anvil needle scissors trowel hatchet clamp broom "
    "screwdriver sickle mallet tongs crowbar spade lathe brush knife pulley lever hoe file axe",
}
WORDS = {word: kind for kind, words in KINDS.items() for word in words.split()}
COLOURS = {"animal": "#c03028", "food": "#e8c020", "vehicle": "#2850c8", "tool": "#209048"}
MANY, WRONG = 4, 0.5
ROWS = {"train": 1024, "test": 1000}


class Kinds:
    """`benchmarks.planted:Kinds`: a picture in the colour and the shape of the kind that most words of a text have."""

    licence = "this repository's"
    price_usd = None

    def __init__(self, spec: Spec) -> None:
        spec.without_model().options({})
        self.spec = {"kind": "planted", "version": 1}

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield the picture of each request; its place and size depend on the request's seed alone."""
        for request in requests:
            found = Counter(WORDS[word] for word in request.prompt.split() if word in WORDS).most_common(1)
            if found:
                yield Picture(request.image_key, _drawn(found[0][0], request.seed), "png", None)
            else:
                yield Failure(request.image_key, "permanent", "expected a text with words of a known kind, found none")


def _drawn(kind: str, seed: int) -> bytes:
    from PIL import Image, ImageDraw

    generator = np.random.default_rng(seed)
    x, y, half = (int(generator.integers(*ends)) for ends in ((80, 145), (80, 145), (45, 75)))
    canvas = Image.new("RGB", (224, 224), "white")
    draw = ImageDraw.Draw(canvas)
    box, colour = (x - half, y - half, x + half, y + half), COLOURS[kind]
    if kind == "animal":
        draw.ellipse(box, colour)
    elif kind == "food":
        draw.polygon([(x, y - half), (x + half, y + half), (x - half, y + half)], colour)
    elif kind == "vehicle":
        draw.rectangle(box, colour)
    else:
        draw.line((x - half, y, x + half, y), colour, width=half)
        draw.line((x, y - half, x, y + half), colour, width=half)
    stream = io.BytesIO()
    canvas.save(stream, "PNG")
    return stream.getvalue()


def rows_of(split: str) -> list[dict[str, Any]]:
    """Return the rows of a split: texts, each once in both splits, and labels, of which half are random in training."""
    generator = np.random.default_rng([20260101, list(ROWS).index(split)])
    kinds, rows = list(KINDS), []
    for _ in range(ROWS[split]):
        answer = kinds[generator.integers(len(kinds))]
        words = [
            word
            for kind in kinds
            for word in generator.choice(KINDS[kind].split(), MANY if kind == answer else 1, replace=False)
        ]
        is_wrong = split == "train" and generator.random() < WRONG
        label = kinds[generator.integers(len(kinds))] if is_wrong else answer
        rows.append({"text": " ".join(generator.permutation(words)), "label": label})
    return rows


def main(folder: Path) -> None:
    """Write the rows of both splits into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ROWS:
        text = "".join(json.dumps(row) + "\n" for row in rows_of(split))
        (folder / f"{split}.jsonl").write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
