"""The map's study files are of one shape, and its positive control is what it says it is."""

from pathlib import Path

import pytest
import yaml

from benchmarks.planted import COLOURS, KINDS, rows_of
from teacher_cache import Failure, Request, open_teacher
from teacher_cache.format.pixels import open_picture

STUDIES = Path(__file__).resolve().parents[3] / "pipelines" / "studies"
MAP = sorted(STUDIES.glob("map-*.yaml"))


def test_all_studies_of_the_map_have_the_same_student_arms_and_comparison():
    files = [yaml.safe_load(path.read_text("utf-8")) for path in MAP]
    assert len(files) == 9
    assert {file["name"] for file in files} == {path.stem for path in MAP}
    for key in ("student", "encoder", "seeds", "arms", "primary"):
        assert all(file[key] == files[0][key] for file in files), key
    few = [file["readouts"]["few_shot"] for file in files]
    for key in ("objective", "objectives", "labelled", "arms"):
        assert all(one[key] == few[0][key] for one in few), key
    assert [file["name"] for file in files if file["teacher"] != "pictogram"] == ["map-planted"]


def test_the_planted_rows_are_always_the_same_with_half_of_the_training_labels_drawn_at_random():
    train, test = rows_of("train"), rows_of("test")
    assert (train, test) == (rows_of("train"), rows_of("test"))
    right = [row["label"] == answer(row["text"]) for row in train]
    assert sum(right) / len(right) == pytest.approx(0.5 + 0.5 / 4, abs=0.05)
    assert all(row["label"] == answer(row["text"]) for row in test)
    assert not {row["text"] for row in train} & {row["text"] for row in test}


def test_the_planted_teacher_draws_the_right_answer_and_never_sees_a_label():
    teacher = open_teacher("benchmarks.planted:Kinds")
    texts = [row["text"] for row in rows_of("train")[:12]]
    drawn = list(teacher.draw([Request(str(place), text, 0, place) for place, text in enumerate(texts)]))
    for text, picture in zip(texts, drawn, strict=True):
        colours = {colour for _, colour in open_picture(picture.data).convert("RGB").getcolors()}
        assert colours == {(255, 255, 255), tuple(bytes.fromhex(COLOURS[answer(text)][1:]))}
    (failed,) = teacher.draw([Request("key", "no known word", 0, 0)])
    assert isinstance(failed, Failure)


def answer(text):
    counts = {kind: sum(word in words.split() for word in text.split()) for kind, words in KINDS.items()}
    return max(counts, key=counts.get)
