"""The evaluation of a run: shared by its processes, however long it takes, and not repeated by training again."""

import json
import subprocess

import numpy as np
import pytest

from distill.dataset.tokens import tokenize
from distill.students.evaluation import predict
from distill.students.generation import generate, load_generator
from distill.students.loading import StudentSpec, load_student
from distill.students.sharing import Shared
from distill.training.steps import Steps
from pipelines.run.request import make_request
from pipelines.run.training import run_training
from teacher_cache import BuildOptions, Cache, build
from tests import fakes
from tests.distill.tiny import save_decoder, save_student, split
from tests.pipelines.cli import ROOT, ranks_command, ranks_environment

LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def home(tmp_path):
    """A student and the rows of demo/sentiment: 24 to train on, 200 to test on."""
    save_student(tmp_path / "student", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (tmp_path / "data").mkdir()
    for name, count in (("train", 24), ("validation", 12), ("test", 200)):
        texts = [f"{name} {text}" for text in split(count).prompts]
        rows = [{"text": text, "sentiment": LABELS[row % 3]} for row, text in enumerate(texts)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def options(home, **changes):
    found = {
        "task": "demo/sentiment", "data_files": str(home / "data"), "epochs": 2, "batch_size": 8, "lr": 1e-3,
        "precision": "fp32", "student": str(home / "student"), "out": str(home / "out"),
    }  # fmt: skip
    return {**found, "control": "undistilled", **changes}


@pytest.mark.slow
def test_two_processes_share_an_evaluation_that_outlasts_the_groups_time_out(home):
    """Rank 0 takes twice as long as the time-out for the aligner, for each epoch's evaluation and for the last one."""
    texts = [json.loads(line)["text"] for line in (home / "data" / "train.jsonl").open()]
    build(Cache(str(home / "cache"), create=True), texts, fakes.teacher(), fakes.encoder(), BuildOptions())
    asked = options(home, control=None, cache=str(home / "cache"), select="validation", epochs=1)
    alone = run_training(make_request({**asked, "out": str(home / "alone")}))
    words = ranks_command(2, "tests.distill.evaluation_worker", home, json.dumps(asked))
    run = subprocess.run(words, cwd=ROOT, env=ranks_environment(), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    one, two = (json.loads((home / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert one["ranks"] == two["ranks"] == 2
    tested = [found["rows"][-1] for found in (one, two)]
    assert sum(tested) == 200
    assert min(tested) > 0
    assert one["metrics"] == two["metrics"] == alone.metrics
    assert json.loads((home / "out" / "run.json").read_text())["ranks"] == 2


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("where", ["an epoch's evaluation", "the last evaluation"])
def test_a_killed_evaluation_goes_on_without_training_again(home, monkeypatch, where):
    from distill.students import task_model

    whole = run_training(make_request(options(home, select="validation", out=str(home / "whole"))))
    calls, steps, step = [], [], Steps.step
    killed_at = 2 if where == "an epoch's evaluation" else 4  # validation twice, then validation and test

    def killed(*given, **named):
        calls.append(named["what"])
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        return predict(*given, **named)

    def counted(self, *given):
        steps.append(1)
        return step(self, *given)

    monkeypatch.setattr(Steps, "step", counted)
    monkeypatch.setattr(task_model, "predict", killed)
    request = make_request(options(home, select="validation"))
    with pytest.raises(KeyboardInterrupt):
        run_training(request)
    assert len(steps) == 6
    result = run_training(request)
    assert len(steps) == 6
    assert result.metrics == whole.metrics
    records = [json.loads((home / name / "run.json").read_text()) for name in ("whole", "out")]
    assert records[0]["selected"] == records[1]["selected"]


def test_ranks_get_the_predictions_of_one_process(home, tmp_path):
    """Each rank computes its batches, and all get all of them in the order of the rows."""
    model, tokenizer = load_student(str(home / "student"), LABELS, 0)
    tokens = tokenize(tokenizer, split(50).texts)
    expected = predict(model, tokens, model.device, batch_size=8)
    decoder, words = load_generator(StudentSpec(str(save_decoder(tmp_path / "d", causal=True, pad="<pad>"))), 0)
    prompts = split(10).prompts
    parts, texts = [], []
    for rank in (0, 1):
        mine = Shared(rank, 2, gather=lambda own: parts.append(own) or [own])
        predict(model, tokens, model.device, batch_size=8, shared=mine)
    for rank in (0, 1):
        both = Shared(rank, 2, gather=lambda _: parts)
        assert np.array_equal(predict(model, tokens, model.device, batch_size=8, shared=both), expected)
    assert sorted(sum(len(rows) for rows, _ in part) for part in parts) == [24, 26]
    for rank in (0, 1):
        mine = Shared(rank, 2, gather=lambda own: texts.append(own) or [own])
        generate(decoder, words, prompts, 4, 32, batch_size=3, shared=mine)
    both = Shared(0, 2, gather=lambda _: texts)
    found = generate(decoder, words, prompts, 4, 32, batch_size=3, shared=both)
    assert found == generate(decoder, words, prompts, 4, 32, batch_size=3)


def test_the_evaluation_is_in_the_precision_of_the_run(home):
    model, tokenizer = load_student(str(home / "student"), LABELS, 0)
    tokens = tokenize(tokenizer, split(20).texts)
    full, half = (predict(model, tokens, model.device, shared=Shared(precision=name)) for name in ("fp32", "bf16"))
    assert 0 < np.abs(full - half).max() < 0.05


def test_the_record_says_precision_limit_and_new_weights_and_cut_rows_are_a_warning(home, capsys):
    asked = options(home, max_length=8)
    run_training(make_request(asked))
    assert "training rows are cut (" in capsys.readouterr().err
    record = json.loads((home / "out" / "run.json").read_text(), parse_constant=pytest.fail)
    assert (record["precision"], record["precision_reason"]) == ("fp32", "--precision")
    assert record["settings"]["student"]["max_length"] == 8
    assert set(record["weights"]["new"]) == {"classifier.weight", "classifier.bias"}
    assert record["truncated"] > 0
    assert record["identity"]["student"].keys() == {"name", "content", "precision"}
    run_training(make_request({**asked, "max_length": None, "out": str(home / "default")}))
    assert "training rows are cut (" not in capsys.readouterr().err
    record = json.loads((home / "default" / "run.json").read_text())
    assert record["settings"]["student"]["max_length"] == 128
    assert "max_length" not in record["identity"]["settings"]


def test_the_same_path_with_other_weights_is_another_run(home):
    from teacher_cache import ArmadaError

    run_training(make_request(options(home)))
    assert run_training(make_request(options(home))).reused
    (home / "student").rename(home / "moved")
    assert run_training(make_request(options(home, student=str(home / "moved")))).reused
    save_student(home / "student", initializer_range=0.5)
    with pytest.raises(ArmadaError, match=r"another run is here: student\.content was"):
        run_training(make_request(options(home)))
