"""`armada pretrain` from texts and a cache to a stock checkpoint: it resumes, and `armada train` takes the student."""

import json
import signal
import subprocess
import time

import pytest

from tests.distill.tiny import save_student, split
from tests.pipelines.cli import FAKES, armada, command, environment, ranks_command, ranks_environment
from tests.pipelines.studies import write_card

TEXTS = split(40).prompts


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Return a folder with a cache of 40 texts and a pre-trained student; the words of the command, and its output."""
    folder = tmp_path_factory.mktemp("pretrain")
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"line": text}) + "\n" for text in [*TEXTS, TEXTS[0]]))
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    save_student(folder / "student", **still)
    built = armada("cache", "build", texts, "--text-column", "line", *FAKES, "--cache", folder / "cache")
    assert built.returncode == 0, built.stderr
    words = ["pretrain", texts, "--text-column", "line", "--student", folder / "student", "--cache", folder / "cache"]
    words += ["--batch-size", 8, "--epochs", 5, "--lr", 0.01, "--components", 3]
    run = armada(*words, "--out", folder / "run", "--json")
    assert run.returncode == 0, run.stderr
    return folder, words, run


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_pre_training_fits_the_features_and_leaves_a_stock_checkpoint_without_a_task_head(pretrained):
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    folder, _, run = pretrained
    facts = json.loads((folder / "run" / "run.json").read_text())
    losses = [epoch["loss"] for epoch in facts["epochs"]]
    assert losses[-1] < losses[0], "1 is the loss of a student that knows nothing"
    assert json.loads(run.stdout)["rows"] == facts["rows"] == 40, "each text counts once"
    assert sorted(path.name for path in (folder / "run").iterdir()) == ["metrics.jsonl", "run.json", "student"]
    AutoModelForSequenceClassification.from_pretrained(folder / "run" / "student")
    before, after = (load_file(folder / name / "model.safetensors") for name in ("student", "run/student"))
    assert set(before) - set(after) == {"classifier.weight", "classifier.bias"}
    assert any(not before[name].equal(after[name]) for name in after)


def test_the_same_command_again_does_nothing_and_another_there_is_refused(pretrained):
    folder, words, run = pretrained
    again = armada(*words, "--out", folder / "run", "--json")
    assert json.loads(again.stdout) == {**json.loads(run.stdout), "reused": True}
    other = armada(*words, "--out", folder / "run", "--power", 1)
    assert other.returncode == 2
    assert "run.json: another run is here: settings.power was 0.5, now 1.0" in other.stderr


def test_train_takes_the_student_and_gives_it_a_head_of_its_own(pretrained):
    folder, _, _ = pretrained
    rows = folder / "rows.csv"
    rows.write_text(
        "text,sentiment\n" + "".join(f"{text},{('negative', 'positive')[len(text) % 2]}\n" for text in TEXTS)
    )
    words = ("train", "--task", write_card(folder), "--data-files", rows, "--student", folder / "run" / "student")
    run = armada(*words, "--control", "undistilled", "--max-steps", 1, "--out", folder / "task")
    assert run.returncode == 0, run.stderr
    assert json.loads((folder / "task" / "run.json").read_text())["weights"]["new"] == [
        "classifier.bias",
        "classifier.weight",
    ]


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_pre_training_goes_on_to_the_same_weights(pretrained):
    folder, words, _ = pretrained
    words = [*words, "--save-steps", 1, "--out", folder / "killed"]
    process = subprocess.Popen(command(*words), env=environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((folder / "killed").glob("checkpoints/step-0000000[3-9].pt")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "killed" / "run.json").exists()
    run = armada(*words)
    assert run.returncode == 0, run.stderr
    assert log(folder / "killed") == log(folder / "run")
    one, two = ((folder / name / "student" / "model.safetensors").read_bytes() for name in ("killed", "run"))
    assert one == two


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(pretrained):
    folder, words, _ = pretrained
    launched = ranks_command(2, "pipelines.cli", *words, "--out", folder / "two", "--json")
    run = subprocess.run(launched, env=ranks_environment(), capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["rows"] == 40
    for line, expected in zip(log(folder / "two"), log(folder / "run"), strict=True):
        assert line == pytest.approx(expected, abs=1e-4)


def test_features_in_windows_are_read_from_their_shards(pretrained):
    folder, words, _ = pretrained
    run = armada(*words, "--out", folder / "windows", "--max-local-bytes", 600)
    assert run.returncode == 0, run.stderr
    assert len(log(folder / "windows")) == len(log(folder / "run"))


def test_a_gap_names_the_command_that_fills_it_and_the_pictures_of_a_control_are_others(pretrained):
    folder, words, _ = pretrained
    more = folder / "more.jsonl"
    more.write_text((folder / "texts.jsonl").read_text() + '{"line": "never drawn"}\n')
    gap = armada("pretrain", more, *words[2:], "--out", folder / "gap")
    assert gap.returncode == 2
    assert "coverage: 40 of 41 training rows have a feature" in gap.stderr
    assert f"armada cache build {more} --text-column line --teacher tests.fakes:FakeTeacher" in gap.stderr
    assert not (folder / "gap").exists()
    shuffled = armada(*words, "--out", folder / "shuffled", "--control", "shuffled", "--max-steps", 2)
    assert shuffled.returncode == 0, shuffled.stderr
    assert log(folder / "shuffled")[1]["loss"] != log(folder / "run")[1]["loss"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--control", "aux-only"], "--control: expected one that changes the features (shuffled, noise, zero, random"),
        (["--control", "undistilled"], "found undistilled: pre-training has nothing else to learn from"),
        (["--components", -1], "--components: expected at least 0, found -1"),
        (["--text-column", "other"], "no column 'other'; found line"),
        (["--accumulate", 9], "--accumulate: expected at most as many parts as the batch has rows (8), found 9"),
    ],
)
def test_what_does_not_fit_is_one_error_before_anything_is_written(pretrained, wrong, message):
    folder, words, _ = pretrained
    run = armada(*words, "--out", folder / "wrong", *wrong)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not (folder / "wrong").exists()
