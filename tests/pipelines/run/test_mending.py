"""The prompts that are built are those that training looks for, and the command of a coverage error fills its gap."""

import json
import random
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from distill import load_card, load_splits, training_prompts
from distill.tasks import splits as splits_module
from distill.tasks.raw_rows import RawRows
from pipelines.cli import app
from pipelines.run.features import join_view
from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError, Cache, CoverageError

TEACHER, ENCODER = "tests.pipelines.run.flaky:Flaky?style=a b", "tests.fakes:FakeEncoder?dimension=6"
MESSY = [
    " ends in a space ",
    "it&amp;s here",
    "“curly” quotes",
    "naÃ¯ve",
    "two\nlines",
    "tab\t.",
    "🙂",
    "e\u0301t\u00e9",
    "x" * 300,
]
FIELDS = {  # the texts of a row, and its labels
    "demo/sentiment": (["text"], "sentiment", ["negative", "neutral", "positive"]),
    "glue/mrpc": (["sentence1", "sentence2"], "label", [0, 1]),
    "superglue/copa": (["premise", "choice1", "choice2"], "label", [0, 1]),
}


def armada(*words):
    """Run a command in this process; raise what it raises."""
    result = CliRunner().invoke(app, list(map(str, words)))
    if isinstance(result.exception, ArmadaError):
        raise result.exception
    return result


def run_advice(message):
    """Run the commands that a coverage error names, as a shell would."""
    (line,) = re.findall(r"^complete the cache with: (.*)$", message, re.MULTILINE)
    commands = line.split("; armada ")
    assert commands[0].startswith("armada cache build ")
    for command in commands:
        armada(*shlex.split(command.removeprefix("armada ")))


def make_rows(task, chance, count):
    texts, label, classes = FIELDS[task]
    rows = []
    for number in range(count):
        row = {name: f"{chance.choice(MESSY)} {number} {name}{chance.choice(MESSY)}" for name in texts}
        rows.append({**row, label: chance.choice(classes), **({"question": "cause"} if "premise" in row else {})})
    return rows


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        csv.write_csv(pa.Table.from_pylist(rows), path)
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)


@dataclass
class World:
    """A folder with the rows of a card, and a training run that wants their features."""

    task: str
    files: Path
    request: RunRequest

    def view(self):
        card = load_card(self.task)
        return join_view(self.request, card, load_splits(card, self.files))[0]


@pytest.fixture
def make_world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(seed):
        chance = random.Random(seed)
        task = chance.choice(list(FIELDS))
        rows = make_rows(task, chance, 12)
        # What a card tests on comes from its source, which is offline here: a few rows of the same kind.
        source = make_rows(task, chance, 3) if task == "demo/sentiment" else make_rows(task, random.Random(7), 3)
        monkeypatch.setattr(splits_module, "source_rows", lambda card, split: RawRows("source", source))
        suffix = chance.choice([".jsonl", ".parquet"] if task != "demo/sentiment" else [".jsonl", ".parquet", ".csv"])
        if chance.random() < 0.5:
            files = Path(chance.choice(["my data", "it's", "data"]))
            files.mkdir()
            write(files / f"train{suffix}", rows)
            write(files / f"test{suffix}", make_rows(task, random.Random(8), 3))
        else:
            files = Path(chance.choice(["rows", "my rows & more", "it's $HOME"]) + suffix)
            write(files, rows)
        samples = chance.choice([1, 1, 2])
        request = RunRequest(
            task,
            "none",
            tmp_path / "out",
            cache="my cache",
            teacher=TEACHER,
            encoder=ENCODER,
            data_files=files,
            samples=samples,
        )
        return World(task, files, request)

    return make


def build(world, *words, teacher=TEACHER, encoder=ENCODER):
    armada("cache", "build", *words, "--teacher", teacher, "--encoder", encoder, "--cache", world.request.cache)


def nothing_of_this_teacher(world, monkeypatch):
    build(world, world.files, "--task", world.task, teacher="tests.fakes:FakeTeacher")


def nothing_of_this_encoder(world, monkeypatch):
    build(world, world.files, "--task", world.task, encoder="tests.fakes:FakeEncoder")


def some_rows_only(world, monkeypatch):
    build(world, world.files, "--task", world.task, "--limit", 2)


def the_raw_texts(world, monkeypatch):
    file = world.files if world.files.is_file() else next(world.files.glob("train.*"))
    build(world, file, "--text-column", FIELDS[world.task][0][0])


def failed_rows(world, monkeypatch):
    monkeypatch.setenv("ARMADA_FLAKY", "1")
    build(world, world.files, "--task", world.task, "--samples", world.request.samples)
    monkeypatch.delenv("ARMADA_FLAKY")


def failed_and_missing_rows(world, monkeypatch):
    monkeypatch.setenv("ARMADA_FLAKY", "1")
    build(world, world.files, "--task", world.task, "--limit", 6)
    monkeypatch.delenv("ARMADA_FLAKY")


GAPS = [
    nothing_of_this_teacher,
    nothing_of_this_encoder,
    some_rows_only,
    the_raw_texts,
    failed_rows,
    failed_and_missing_rows,
]


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_the_command_of_a_coverage_error_fills_the_gap_that_it_names(make_world, monkeypatch, gap, seed):
    world = make_world(f"{gap.__name__} {seed}")
    gap(world, monkeypatch)
    with pytest.raises(CoverageError) as caught:
        world.view()
    before = {
        row
        for teacher in Cache("my cache").teachers()
        for row in Cache("my cache").images(teacher)["image_key"].to_pylist()
    }
    run_advice(str(caught.value))
    view = world.view()
    assert view.coverage.is_full
    assert len(view.split) > 0
    after = [
        row
        for teacher in Cache("my cache").teachers()
        for row in Cache("my cache").images(teacher)["image_key"].to_pylist()
    ]
    assert before <= set(after)
    assert len(after) == len(set(after))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_built_from_the_rows_of_a_card_is_what_its_training_looks_for(make_world, seed):
    world = make_world(seed)
    samples = ("--samples", world.request.samples)
    build(world, world.files, "--task", world.task, *samples)
    assert world.view().coverage.is_full
    listed = world.files.parent / "listed.jsonl"
    armada("tasks", world.task, "--data-files", world.files, "--prompts", listed)
    prompts = [json.loads(line)["text"] for line in listed.read_text("utf-8").splitlines()]
    assert prompts == training_prompts(load_card(world.task), world.files) == world.view().split.prompts
    sources = ("--teacher", TEACHER, "--encoder", ENCODER, "--cache", "my cache")
    for words in ((listed,), (world.files, "--task", world.task)):
        planned = json.loads(armada("cache", "plan", *words, *sources, *samples, "--json").stdout)
        assert planned["calls"] == 0
        assert planned["rows"] == len(prompts)


def test_a_record_of_a_cache_cannot_put_a_command_into_the_advice(make_world):
    world = make_world(1)
    build(world, world.files, "--task", world.task, "--limit", 1)
    (record,) = Path("my cache").glob("images/*/teacher.json")
    facts = json.loads(record.read_text())
    for text, shown in {"x'; touch owned; '": "'x'\"'\"'; touch owned; '\"'\"''", "x\n\x1b[2Jy": "SPEC"}.items():
        record.write_text(json.dumps({**facts, "text": text}))
        world.request = RunRequest(world.task, "none", Path("out"), cache="my cache", data_files=world.files)
        with pytest.raises(CoverageError) as caught:
            world.view()
        assert f"--teacher {shown} --encoder" in str(caught.value)
