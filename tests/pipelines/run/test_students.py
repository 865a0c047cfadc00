"""Students of a run: of a task of pairs with scores, of pairs for decoders, and with code of their own."""

import json

import numpy as np
import pytest

import distill.cards.cards
from distill.students.loading import StudentSpec
from distill.students.similarity import load_embedder
from distill.tasks.new_card import card_text, new_card
from pipelines.run.request import make_request
from pipelines.run.training import run_training
from teacher_cache import ArmadaError, BuildOptions, Cache, build
from tests import fakes
from tests.distill.students.test_similarity import pairs
from tests.distill.tiny import save_decoder, save_student

CARD = """
name: my/pairs
title: Pairs with a score
type: {type}
source: {{repository: nobody/pairs, revision: none, files: none, licence: none}}
text: ["{{one}}", "{{two}}"]
label: score
prompt: "{{one}} / {{two}}"
split: {{train: 80, validation: 10, test: 10}}
metrics: [spearman, pearson]
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Cards of my own, with their rows, and a cache of the training rows' pictures."""
    (tmp_path / "tasks" / "my").mkdir(parents=True)
    (tmp_path / "tasks" / "my" / "pairs.yaml").write_text(CARD.format(type="similarity"))
    (tmp_path / "tasks" / "my" / "scores.yaml").write_text(CARD.format(type="regression"))
    monkeypatch.setattr(distill.cards.cards, "FOLDERS", (tmp_path / "tasks", *distill.cards.cards.FOLDERS))
    (tmp_path / "rows").mkdir()
    split, prompts = pairs(60), []
    for name, places in (("train", range(40)), ("test", range(40, 60))):
        rows = [{"one": f"{split.texts[row][0]} {row}", "two": split.texts[row][1], "score": split.labels[row]}
                for row in places]  # fmt: skip
        (tmp_path / "rows" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        prompts += [f"{row['one']} / {row['two']}" for row in rows]
    build(Cache(str(tmp_path / "cache"), create=True), prompts, fakes.teacher(), fakes.encoder(), BuildOptions())
    return tmp_path


def train(home, out="out", **changes):
    """Run armada train, and return its record."""
    found = {
        "task": "my/pairs", "data_files": str(home / "rows"), "student": str(home / "student"), "epochs": 2,
        "batch_size": 8, "lr": 1e-3, "precision": "fp32", "out": str(home / out), "cache": str(home / "cache"),
    }  # fmt: skip
    said = {name: value for name, value in {**found, **changes}.items() if value is not None}
    run_training(make_request(said))
    return json.loads((home / out / "run.json").read_text())


def test_pairs_with_scores_train_an_embedding_student_that_sentence_transformers_loads(home):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    save_student(home / "student")
    record = train(home)
    assert record["metrics"]["test"].keys() == {"spearman", "pearson"}
    assert record["parameters"]["added_to_student"] > 0
    model = sentence_transformers.SentenceTransformer(str(home / "out" / "student"), device="cpu")
    rows = [json.loads(line) for line in (home / "rows" / "test.jsonl").open()]
    one, two = (model.encode([row[name] for row in rows], show_progress_bar=False) for name in ("one", "two"))
    found = np.corrcoef(model.similarity_pairwise(one, two), [row["score"] for row in rows])[0, 1]
    assert found == pytest.approx(record["metrics"]["test"]["pearson"], abs=1e-4)
    card = (home / "out" / "student" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert train(home) == record  # the same run again reads what is there


def test_a_file_of_pairs_becomes_a_card_of_an_embedding_student(home):
    split = pairs(40)
    lines = [f"{one},{two},{label}" for (one, two), label in zip(split.texts, split.labels, strict=True)]
    rows = home / "pairs.csv"
    rows.write_text("\n".join(["first,second,score", *dict.fromkeys(lines)]))
    found = new_card(str(rows), "first,second", "score", "similarity")
    assert (found.card.type, found.card.metrics) == ("similarity", ["spearman", "pearson"])
    assert any("type: similarity, numbers from 0 to 5" in sentence for sentence in found.said)
    guessed = new_card(str(rows), "first,second", "score")
    assert guessed.card.type == "regression"
    assert any("--type similarity" in sentence for sentence in guessed.said)
    with pytest.raises(ArmadaError, match="--type similarity: expected the two texts of a pair"):
        new_card(str(rows), "first", "score", "similarity")
    (home / "card.yaml").write_text(card_text(found.card, home))
    save_student(home / "student")
    record = train(home, task=str(home / "card.yaml"), data_files=None, control="undistilled", cache=None, epochs=1)
    assert record["metrics"]["test"].keys() == {"spearman", "pearson"}


@pytest.mark.parametrize("control", ["undistilled", "shuffled", "aux-only"])
def test_an_embedding_student_has_the_controls_of_the_others(home, control):
    save_decoder(home / "student")
    record = train(home, control=control)
    assert np.isfinite(record["metrics"]["test"]["spearman"])
    assert load_embedder(StudentSpec(str(home / "out" / "student")), 0)[0].embedding_width == 16


def test_a_control_that_widens_the_task_head_is_refused_where_there_is_none(home):
    save_student(home / "student")
    with pytest.raises(ArmadaError, match=r"parameter-matched: it adds .* task head: no task head in BertModel"):
        train(home, control="parameter-matched")


def test_the_separator_of_pairs_names_the_runs_of_decoders_and_not_those_of_encoders(home):
    save_student(home / "student")
    assert "pair_separator" not in train(home, task="my/scores", epochs=1)["identity"]["student"]
    save_decoder(home / "decoder")
    decoder = train(home, "second", task="my/scores", student=str(home / "decoder"), epochs=1)
    assert decoder["identity"]["student"]["pair_separator"] == "</s>"
    alone = train(home, "third", student=str(home / "decoder"), epochs=1)  # embeds the texts one by one
    assert "pair_separator" not in alone["identity"]["student"]


def test_the_record_says_whether_code_of_the_student_was_run(home):
    save_student(home / "student")
    assert "trust_remote_code" not in train(home, epochs=1)["identity"]["student"]
    trusted = train(home, "second", epochs=1, trust_remote_code=True)
    assert trusted["identity"]["student"]["trust_remote_code"] is True
