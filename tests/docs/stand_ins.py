"""What the commands of the pages run with: small parts under the names of the real ones, and files as the pages say.

The words of a command stay as they are printed, but for `...`, `SPEC` and `URL`, which a reader fills in as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distill.students import loading
from teacher_cache import Cache, build, encoders, open_encoder, open_teacher, teachers
from tests.distill.tiny import WORDS, save_student
from tests.fakes import FakeEncoder, FakeTeacher

USUAL = {"--teacher": "pictogram", "--encoder": "efficientnet-lite0", "--cache": "./cache", "--student": "minilm"}
NEEDED = {  # what `...` stands for at the end of a command
    "cache build": ("--teacher", "--encoder", "--cache"),
    "cache plan": ("--teacher", "--encoder", "--cache"),
}


class Pictogram(FakeTeacher):
    """Noise in place of drawings."""

    def __init__(self, spec):
        super().__init__(replace(spec, params={}))
        self.spec = {"kind": "pictogram", "size": int(spec.params.get("size", 224))}
        self.price_usd = None


class AnyEncoder(FakeEncoder):
    """Eight numbers per picture under the name of an encoder with weights."""

    def __init__(self, spec):
        super().__init__(replace(spec, params={}))
        self.spec = {"kind": spec.kind, "model": spec.model, "options": sorted(spec.params.items())}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the small parts in the places of the real ones, and a key where a provider's is read."""
    monkeypatch.setitem(teachers.BUILT_IN, "pictogram", "tests.docs.stand_ins:Pictogram")
    for name in ("efficientnet-lite0", "open_clip", "text"):
        monkeypatch.setitem(encoders.BUILT_IN, name, "tests.docs.stand_ins:AnyEncoder")
    for name in ("OPENAI", "TOGETHER"):
        monkeypatch.setenv(f"{name}_API_KEY", "for-tests")


def install_student(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put a tiny student in the place of MiniLM."""
    student = save_student(folder, num_labels=2)
    monkeypatch.setattr(loading, "minilm_folder", lambda: student)


def rows(count: int = 160) -> list[tuple[str, str]]:
    """Texts with two classes of the first word."""
    texts = [f"{WORDS[i % 8]} {WORDS[8 + i % 7]} {WORDS[(i * i) % 16]} {i}" for i in range(count)]
    return [(text, ["no", "yes"][place % 2]) for place, text in enumerate(texts)]


def write_files(label: str) -> None:
    """Write the files that the pages name into the working folder; `label` is the column of labels in rows.csv."""
    table = "".join(f"{text},{answer}\n" for text, answer in rows())
    Path("rows.csv").write_text(f"text,{label}\n{table}")
    Path("mine.csv").write_text(f"comment,tags\n{table}")
    texts = [text for text, _ in rows()]
    Path("prompts.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    Path("prompts.txt").write_text("".join(f"{text}\n" for text in texts))
    for name in ("prompts.jsonl", "texts.jsonl"):
        Path(name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pairs = [
        {"one": one, "two": two, "score": number % 6}
        for number, (one, two) in enumerate(zip(texts[:60], texts[60:120], strict=True))
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))


def fill_cache(url: str = "./cache") -> None:
    """Build the cache that a page begins with."""
    texts = [*(text for text, _ in rows()), "my dog chased a cat"]
    build(Cache(url, create=True), texts, open_teacher(USUAL["--teacher"]), open_encoder(USUAL["--encoder"]))


def filled_in(words: list[str]) -> list[str]:
    """Return a command's words with the usual values in the places that the page leaves to its reader."""
    done: list[str] = []
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if before in USUAL and word in ("...", "SPEC", "URL"):
            done.append(USUAL[before])
        elif word == "...":
            needed = NEEDED[" ".join(words[:2])]
            done += [part for flag in needed if flag not in words for part in (flag, USUAL[flag])]
        else:
            done.append(word)
    return done
