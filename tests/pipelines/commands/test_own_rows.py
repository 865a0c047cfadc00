"""From a file of one's own to an exported student in two commands: cache build, train."""

import json
import random
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from distill.cards.cards import METRICS_OF
from teacher_cache import ArmadaError, CoverageError
from tests.distill.tiny import save_student
from tests.pipelines.cli import FAKES
from tests.pipelines.run.test_mending import armada, run_advice

CLASSES = ["account", "billing", "complaint", "delivery", "other", "praise", "product", "returns"]
WORDS = ["good", "bad", "plane", "phone", "late", "love", "my", "very"]
SHORT = ("--epochs", 1, "--batch-size", 128, "--max-length", 8)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return save_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def text(number):
    """A text of a row, as people's files have them: with white space around it, and quotes."""
    words = random.Random(number).choices(WORDS, k=4)
    return f'{" " * (number % 3)}{" ".join(words)} {number}, "so"{" " * (number % 2)}'


def eight_classes():
    quoted = ['"{}",{}'.format(text(i).replace('"', '""'), CLASSES[i % 8]) for i in range(1000)]
    Path("mails.csv").write_text("\n".join(["text,category", *quoted]) + "\n")
    return "mails.csv", "text", "category", "account"


def pairs():
    rows = [{"said": text(i), "meant": text(-i), "same": ["no", "yes"][i % 2]} for i in range(120)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "pairs.jsonl", "said,meant", "same", "no"


def scores():
    table = pa.table({"sentence": [text(i) for i in range(120)], "how funny": [i % 50 / 10 for i in range(120)]})
    parquet.write_table(table, "scores.parquet")
    return "scores.parquet", "sentence", "how funny", "score"


def saved_dataset():
    import datasets

    label = datasets.ClassLabel(names=["zebra", "ant"])
    rows = {"review": [text(i) for i in range(120)], "label": [i % 2 for i in range(120)]}
    table = datasets.Dataset.from_dict(rows).cast_column("label", label)
    table.save_to_disk("saved")
    return "saved", "review", "label", "zebra"


def saved_splits():
    import datasets

    parts = {
        name: datasets.Dataset.from_dict(
            {"text": [f"{name} {text(i)}" for i in range(count)], "label": ["x", "y"] * (count // 2)}
        )
        for name, count in {"train": 80, "validation": 20, "test": 30}.items()
    }
    datasets.DatasetDict(parts).save_to_disk("splits")
    return "splits", "text", "label", "x"


def label_lists():
    rows = [{"text": text(i), "tags": ["a", "b", "c"][i % 3 : 1 + i % 4]} for i in range(120)]
    Path("tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "tags.jsonl", "text", "tags", "a"


def label_columns():
    rows = [f'"{text(i)}",{i % 2},{int(i % 3 == 0)},1'.replace('"so"', "so") for i in range(120)]
    Path("flags.csv").write_text("\n".join(["text,wet,cold,new", *rows]) + "\n")
    return "flags.csv", "text", "wet,cold,new", "wet"


KINDS = [eight_classes, pairs, scores, saved_dataset, saved_splits]
KINDS += [label_lists, label_columns] if "multi-label" in METRICS_OF else []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_two_commands_lead_from_a_file_to_an_exported_student(kind, student):
    from transformers import AutoModelForSequenceClassification

    rows, texts, label, first = kind()
    columns = ("--text-column", texts, "--label-column", label)
    built = armada("cache", "build", rows, *columns, *FAKES, "--cache", "c", "--json")
    assert built.exit_code == 0, built.stderr
    words = ("--student", student, "--cache", "c", *SHORT)
    run = armada("train", rows, *columns, *words, "--out", "run", "--json")
    assert run.exit_code == 0, run.stderr
    facts = json.loads(Path("run/run.json").read_text())
    assert facts["rows"]["train"] == facts["coverage"]["found"] == json.loads(built.stdout)["calls"]
    assert facts["rows"]["test"] > 0
    assert json.loads(run.stdout)["metrics"] == facts["metrics"]["test"] != {}
    assert "train, " in run.stderr
    assert "features: --teacher tests.fakes:FakeTeacher --encoder tests.fakes:FakeEncoder, since none" in run.stderr
    model = AutoModelForSequenceClassification.from_pretrained("run/student")
    assert f"{model.config.id2label[0]}" == first


def test_pairs_with_a_score_lead_to_an_embedding_student_where_the_user_says_so(student):
    rows = [{"a": text(i), "b": text(-i), "score": i % 6 / 5} for i in range(120)]
    Path("alike.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ("--text-column", "a,b", "--label-column", "score", "--type", "similarity")
    build = ("cache", "build", "alike.jsonl", *columns, *FAKES, "--cache", "c", "--json")
    if "similarity" not in METRICS_OF:  # the schema of cards has no such type yet
        with pytest.raises(ArmadaError, match="there are no similarity tasks yet"):
            armada(*build)
        return
    built = armada(*build)
    assert built.exit_code == 0, built.stderr
    run = armada(
        "train", "alike.jsonl", *columns, "--student", student, "--cache", "c", *SHORT, "--out", "run", "--json"
    )
    assert run.exit_code == 0, run.stderr
    assert json.loads(Path("run/run.json").read_text())["coverage"]["found"] == json.loads(built.stdout)["calls"]
    assert yaml.safe_load(Path("run/card.yaml").read_text())["type"] == "similarity"
    assert Path("run/student/modules.json").is_file()  # as sentence-transformers reads it


def test_texts_alone_are_built_as_training_looks_for_them(student):
    """Without --label-column, all rows are drawn: training finds its own among them, white space or not."""
    for kind in (eight_classes, pairs, saved_splits):
        rows, texts, label, _ = kind()
        built = armada("cache", "build", rows, "--text-column", texts, *FAKES, "--cache", rows.partition(".")[0])
        assert built.exit_code == 0, built.stderr
        words = ("--student", student, "--cache", rows.partition(".")[0], *SHORT, "--max-steps", 1)
        run = armada("train", rows, "--text-column", texts, "--label-column", label, *words, "--out", f"run {rows}")
        assert run.exit_code == 0, run.stderr


def test_what_is_missing_is_built_by_the_command_of_the_error(student):
    rows = pairs()[0]
    armada("cache", "build", rows, "--text-column", "said", *FAKES, "--cache", "c")
    words = (
        "train",
        rows,
        "--text-column",
        "said,meant",
        "--label-column",
        "same",
        "--student",
        student,
        "--cache",
        "c",
    )
    with pytest.raises(CoverageError) as caught:
        armada(*words, *SHORT, "--out", "run")
    assert "armada cache build pairs.jsonl --text-column said,meant --label-column same --teacher" in str(caught.value)
    run_advice(str(caught.value))
    assert armada(*words, *SHORT, "--out", "run").exit_code == 0


def test_a_type_that_is_said_is_in_the_command_of_the_error(student):
    rows = [{"text": text(i), "stars": i % 5} for i in range(60)]
    Path("stars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("train", "stars.jsonl", "--label-column", "stars", "--type", "regression", "--student", student)
    armada("cache", "build", "stars.jsonl", *FAKES, "--limit", 1, "--cache", "c")
    with pytest.raises(CoverageError, match="--label-column stars --type regression --teacher") as caught:
        armada(*words, "--cache", "c", "--out", "run")
    run_advice(str(caught.value))
    run = armada(*words, "--cache", "c", *SHORT, "--out", "run")
    assert run.exit_code == 0, run.stderr
    assert set(json.loads(Path("run/run.json").read_text())["metrics"]["test"]) == {"pearson", "spearman"}


def test_a_run_keeps_its_card_and_is_named_by_what_the_card_says(student):
    rows, _, _, _ = eight_classes()
    words = ("--student", student, "--control", "undistilled", *SHORT, "--max-steps", 1)
    first = armada("train", rows, *words, "--out", "run", "--json")
    assert first.exit_code == 0, first.stderr
    assert "label column: 'category', guessed" in first.stderr
    card = yaml.safe_load(Path("run/card.yaml").read_text())
    assert (card["labels"], card["source"]) == (CLASSES, {"data": "../mails.csv"})
    again = ["--task", "run/card.yaml"], ["--task", "moved/mine.yaml"]
    Path("moved").mkdir()
    shutil.copy(rows, "moved/mails.csv")
    Path("moved/mine.yaml").write_text(Path("run/card.yaml").read_text().replace("../mails.csv", "mails.csv"))
    for way in again:
        assert json.loads(armada("train", *way, *words, "--out", "run", "--json").stdout)["reused"]
    Path("moved/mine.yaml").write_text(yaml.safe_dump({**card, "source": {"data": "mails.csv"}, "prompt": "a {text}"}))
    with pytest.raises(ArmadaError, match="another run is here: card was"):
        armada("train", "--task", "moved/mine.yaml", *words, "--out", "run")


def test_a_new_card_is_written_beside_its_rows_and_never_over_another_file(student):
    rows = eight_classes()[0]
    made = armada("tasks", "new", rows)
    assert made.stdout == "card: mails.yaml\n"
    assert "type: classification, 8 classes: account, billing" in made.stderr
    assert "split: 80 % train, 10 % validation, 10 % test" in made.stderr
    assert yaml.safe_load(Path("mails.yaml").read_text())["labels"] == CLASSES
    Path("mails.yaml").write_text("mine")
    with pytest.raises(ArmadaError, match=r"mails.yaml is there already; replace it with --force"):
        armada("tasks", "new", rows)
    assert Path("mails.yaml").read_text() == "mine"
    facts = json.loads(armada("tasks", "new", rows, "--force", "--json").stdout)
    assert (facts["card"], facts["type"], facts["classes"]) == ("mails.yaml", "classification", CLASSES)
    assert sum(facts["rows"].values()) == 1000
    assert armada("tasks", "new", rows, "--out", "cards/other.yaml").exit_code == 0
    assert yaml.safe_load(Path("cards/other.yaml").read_text())["source"] == {"data": "../mails.csv"}


def test_the_path_of_a_card_works_wherever_the_name_of_one_does(student):
    rows = pairs()[0]
    armada("tasks", "new", rows, "--text-column", "said,meant", "--label-column", "same", "--out", "own/card.yaml")
    assert "said" in armada("tasks", "own/card.yaml").stdout
    listed = armada("tasks", "own/card.yaml", "--prompts", "p.jsonl")
    assert listed.exit_code == 0, listed.stderr
    built = json.loads(armada("cache", "build", "own/card.yaml", *FAKES, "--cache", "c", "--json").stdout)
    for words in (["own/card.yaml"], ["p.jsonl"], [rows, "--text-column", "said,meant", "--label-column", "same"]):
        planned = json.loads(armada("cache", "plan", *words, *FAKES, "--cache", "c", "--json").stdout)
        assert (planned["calls"], planned["rows"]) == (0, built["rows"]), words
    more = json.loads(armada("cache", "plan", rows, "--task", "own/card.yaml", *FAKES, "--cache", "c", "--json").stdout)
    assert more["calls"] == 0  # its other rows are tested on, and left out
    run = armada("train", "--task", "own/card.yaml", "--student", student, "--cache", "c", *SHORT, "--out", "run")
    assert run.exit_code == 0, run.stderr
    Path("gap.jsonl").write_text(json.dumps({"said": "new", "meant": "row", "same": "no"}) + "\n")
    for words in (["--task", "own/card.yaml", "--data-files", "gap.jsonl"], ["gap.jsonl", "--task", "own/card.yaml"]):
        with pytest.raises(CoverageError) as caught:
            armada("train", *words, "--student", student, "--cache", "c", "--out", "gap")
        assert "armada cache build gap.jsonl --task own/card.yaml --teacher" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "--task is missing; rows of your own need none: armada train ROWS"),
        (
            ["train", "mails.csv", "--text-column", "txt"],
            r"mails.csv: --text-column: no column 'txt'; .* did you mean text\?",
        ),
        (
            ["train", "mails.csv", "--label-column", "categry"],
            r"no column 'categry'; found text, category; did you mean cat",
        ),
        (
            ["train", "mails.csv", "--task", "demo/sentiment", "--text-column", "text"],
            "the card demo/sentiment says it",
        ),
        (["train", "--task", "demo/sentiment", "--label-column", "text"], "the card demo/sentiment says it"),
        (
            ["train", "mails.csv", "--data-files", "mails.csv"],
            "--data-files: expected rows in one place, found mails.csv",
        ),
        (["train", "--task", "demo/sentimant"], r"no task 'demo/sentimant'; did you mean demo/sentiment\?"),
        (["train", "--task", "mails.csv"], "rows are trained on by: armada train mails.csv"),
        (["train", "mails.csv", "--control", "undistiled"], r"did you mean undistilled\?"),
        (["train", "mails.csv", "--manifold", "relatinal"], r"did you mean relational\?"),
        (["train", "mial.csv"], r"mial.csv: no such file or folder; did you mean mails.csv\?"),
        (["cache", "build", "mails.csv", "--label-column", "categry"], r"did you mean category\?"),
        (["cache", "build", "mails.csv", "--text-column", "txt"], r"did you mean text\?"),
        (["cache", "build", "demo/sentimant"], r"did you mean demo/sentiment\?"),
        (["cache", "build", "demo/sentiment", "--label-column", "x"], "the card demo/sentiment has its own columns"),
        (
            ["cache", "build", "mails.csv", "--task", "demo/sentiment", "--label-column", "x"],
            "leave out one of the two",
        ),
        (["train", "mails.csv", "--type", "similarity"], "--type similarity: expected the two texts of a pair"),
        (["cache", "build", "mails.csv", "--type", "regression"], "--type: expected --label-column L beside it"),
        (["tasks", "new", "mails.csv", "--type", "clasification"], r"did you mean classification\?"),
        (["tasks", "new", "mails.csv", "--out", "card.txt"], "expected a file ending in .yaml"),
        (["tasks", "mails.csv"], "a card of them is written by: armada tasks new mails.csv"),
    ],
)
def test_a_slip_is_one_line_that_names_the_nearest_word(words, message):
    eight_classes()
    required = {"train": ["--student", "none", "--cache", "c", "--out", "run"], "cache": [*FAKES, "--cache", "c"]}
    if "--control" in words:
        required["train"] = ["--student", "none", "--out", "run"]
    with pytest.raises(ArmadaError, match=message) as caught:
        armada(*words, *required.get(words[0], []))
    assert "Traceback" not in str(caught.value)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "did you mean 'train'"),
        ("cache buidl", "did you mean 'build'"),
        ("cache promts", "did you mean 'prompts'"),
        ("tasks nwe mails.csv", "did you mean 'new'"),
        ("train --taks x", "--task"),
        ("tasks new mails.csv --text-colum x", "--text-column"),
    ],
)
def test_a_mistyped_command_or_flag_names_the_nearest_one(words, message):
    result = armada(*shlex.split(words))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
