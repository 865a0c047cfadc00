"""Cards, study files, options in a file, pilots and published results from anyone are read, or refused by name."""

import json
import shutil
from pathlib import Path

import pytest

from distill.cards.cards import FOLDERS, read_card
from pipelines.commands.training.train import _read as read_config
from pipelines.run.class_weights import _read as read_weights
from pipelines.study.config import parse_study
from pipelines.study.joined.entries import entries_of
from pipelines.study.joined.pilots import read_pilot
from pipelines.study.joined.table import join, markdown
from pipelines.study.ledger.reruns import open_study
from pipelines.study.report import gather, write_report
from teacher_cache import ArmadaError
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, odd_lines, other_json, other_yaml
from tests.pipelines.study.simulated import simulate_study, write_pilot

STUDIES = Path(__file__).resolve().parents[2] / "pipelines" / "studies"
YAML = (damaged_bytes, odd_lines, other_yaml, other_yaml, other_yaml)
JSON = (damaged_bytes, other_json, other_json, other_json)


def from_file(read, path):
    """Return a reader of bytes that reads them from a file."""

    def read_bytes(data):
        path.write_bytes(data)
        return read(path)

    return read_bytes


def test_a_card_is_read_or_refused(tmp_path):
    seeds = [
        (FOLDERS[1] / f"{name}.yaml").read_bytes() for name in ("demo/sentiment", "superglue/copa", "world/emotions")
    ]
    fuzz("card", seeds, YAML, from_file(read_card, tmp_path / "card.yaml"), tmp_path, count=80)


def test_a_study_file_is_read_or_refused(tmp_path):
    (tmp_path / "card.yaml").write_bytes((FOLDERS[1] / "demo" / "sentiment.yaml").read_bytes())
    seeds = [(STUDIES / f"{name}.yaml").read_bytes() for name in ("demo", "demo-minilm", "ablation-sentiment")]
    fuzz("study", seeds, YAML, lambda data: parse_study(data, tmp_path / "study.yaml"), tmp_path, count=60)


def test_options_in_a_file_are_read_or_refused(tmp_path):
    from pipelines.run.request import layered, make_request

    def request(path):
        return make_request(layered(read_config(path), {}, str(path)), str(path))

    seed = b"task: demo/sentiment\nstudent: minilm\ncache: cache\nout: out\nepochs: 2\nlr: 1e-4\nalpha: 0.1\n"
    fuzz("options", [seed], YAML, from_file(request, tmp_path / "run.yaml"), tmp_path, count=80)


def test_class_weights_in_a_file_are_read_or_refused(tmp_path):
    seeds = [b"[1, 2.5, 0.1]", b'{"negative": 1, "neutral": 2, "positive": 0.5}']
    fuzz("class weights", seeds, YAML, from_file(read_weights, tmp_path / "weights.yaml"), tmp_path)


def test_a_pilots_judgement_is_read_or_refused(tmp_path):
    seed = write_pilot(tmp_path / "pilot", "colour", "worth it").read_bytes()
    fuzz("pilot", [seed], JSON, from_file(read_pilot, tmp_path / "pilot.json"), tmp_path)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a finished study and its results.json."""
    folder = tmp_path_factory.mktemp("study")
    out = simulate_study(folder / "colour", "colour", {"undistilled": 0.5, "relational": 0.9, "shuffled": 0.5}, rows=20)
    write_report(out)
    return out


def test_published_results_are_read_or_refused(study, tmp_path):
    def read(path):
        return markdown(join(entries_of([path]), []))

    fuzz("results", [(study / "results.json").read_bytes()], JSON, from_file(read, tmp_path / "results.json"), tmp_path)


def test_a_published_study_is_opened_again_or_refused(study, tmp_path):
    def read(path):
        return open_study(path, str(tmp_path / "cache"))

    shutil.copytree(study.parent / "colour", tmp_path / "colour")
    seed = (study / "results.json").read_bytes()
    fuzz("ledger", [seed], JSON, from_file(read, tmp_path / "results.json"), tmp_path, count=50)


@pytest.mark.parametrize("name", ["study.json", "run.json", "results.json", "predictions.npz"])
def test_a_colleagues_folder_of_a_study_is_reported_or_refused(study, tmp_path, name):
    path = next(study.rglob(name))
    seed = path.read_bytes()
    damage = JSON if name.endswith(".json") else (damaged_bytes,)
    try:
        fuzz(f"study folder {name}", [seed], damage, from_file(lambda _: gather(study), path), study, count=10)
    finally:
        path.write_bytes(seed)


@pytest.mark.parametrize(
    "line", ["split: x", "split: [1]", "source: x", "source: [package]", "source:", "? [a]\n: 1", "name: !!timestamp x"]
)
def test_a_part_of_a_card_that_is_a_word_or_a_list_is_named(tmp_path, line):
    path = tmp_path / "card.yaml"
    text = (FOLDERS[1] / "demo" / "sentiment.yaml").read_text()
    key = line.partition(":")[0]
    lines = [one for one in text.splitlines() if not one.startswith((key, " "))]
    path.write_text("\n".join([*lines, line, ""]))
    with pytest.raises(ArmadaError, match=str(path)):
        read_card(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("by_readout", 0, "readout"), "x"),
        (("ledger", "runs"), []),
        (("ledger", "runs"), {"a": 1}),
        (("arm",), "\ud800"),
        (("margin",), float("inf")),
    ],
)
def test_published_results_of_another_shape_are_named(study, tmp_path, path, value):
    facts = json.loads((study / "results.json").read_bytes())
    place = facts
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "results.json").write_text(json.dumps(facts))
    with pytest.raises(ArmadaError, match=r"results\.json: "):
        entries_of([tmp_path / "results.json"])
