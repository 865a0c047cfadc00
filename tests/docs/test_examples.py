"""Every file of examples/ runs as it is; no output is committed."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from teacher_cache import Cache, build, open_picture, open_teacher
from tests import fakes
from tests.distill.tiny import save_student
from tests.docs import stand_ins
from tests.docs.commands import ROOT
from tests.pipelines.cli import FAKES

EXAMPLES = ROOT / "examples"
NOTEBOOK = json.loads((EXAMPLES / "first_gain.ipynb").read_text("utf-8"))


def example(name, *words):
    """Run a script of examples/ in this process, as its `main` does with the words of a command line."""
    main = runpy.run_path(str(EXAMPLES / name))["main"]
    main([str(word) for word in words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stand_ins.write_files("label")
    return tmp_path


def test_every_example_is_listed_and_has_a_test():
    files = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb"))
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    tested = Path(__file__).read_text("utf-8")
    assert [name for name in files if f"({name})" not in listed or name not in tested] == []


def test_the_script_for_your_own_trainer_saves_a_plain_student(here, capsys):
    from transformers import AutoModelForSequenceClassification

    build(Cache("cache", create=True), [text for text, _ in stand_ins.rows()], fakes.teacher(), fakes.encoder())
    student = save_student(here / "start", num_labels=2)
    example("own_trainer.py", "rows.csv", "cache", "--student", student, "--epochs", 1)
    model, report = AutoModelForSequenceClassification.from_pretrained("own-trainer/student", output_loading_info=True)
    assert not any(report.values())
    assert model.config.num_labels == 2
    assert "trained on 160 texts" in capsys.readouterr().out


def test_the_teacher_of_your_own_draws_the_same_alone_and_in_a_batch_and_refuses_what_it_cannot(here):
    spec = f"{EXAMPLES / 'own_teacher.py'}:Stripes?size=32"
    cache = Cache("cache", create=True)
    report = build(cache, ["a red apple on green grass", "nothing to see"], open_teacher(spec), fakes.encoder())
    assert (report.drawn, report.failed) == (1, {"refused": 1})
    teacher = open_teacher(spec)
    requests = [fake_request(prompt, seed) for seed, prompt in enumerate(["red", "a blue sea", "green and gold"])]
    together = {answer.image_key: answer.data for answer in teacher.draw(requests)}
    alone = {key: data for request in requests for key, data in [answer_of(teacher, request)]}
    assert together == alone
    pixels = np.asarray(open_picture(together["red"]))
    assert pixels.shape == (32, 32, 3)
    assert np.allclose(pixels.mean((0, 1)), [255, 0, 0], atol=6)


def fake_request(prompt, seed):
    from teacher_cache import Request

    fields = {"image_key": prompt, "prompt": prompt, "sample": 0, "seed": seed}
    return Request(**{name: fields[name] for name in Request.__dataclass_fields__ if name in fields})


def answer_of(teacher, request):
    (answer,) = teacher.draw([request])
    return answer.image_key, answer.data


def test_the_script_for_a_bucket_builds_into_it_and_the_second_run_makes_no_call(here, bucket, capsys):
    for calls in (160, 0):
        example("bucket.py", bucket.url, "prompts.txt", *FAKES)
        said = capsys.readouterr().out
        assert said.startswith(f"{calls} calls,"), said
        assert "160 of 160 prompts have a feature of 8 numbers" in said


@pytest.mark.slow  # two commands in processes of their own; the page docs/own-data.md has them in this one
def test_the_script_for_sentence_transformers_trains_a_student_that_it_loads(here, capsys):
    student = save_student(here / "start")
    example("sentence_embeddings.py", "pairs.jsonl", "--student", student, *FAKES, "--epochs", 1)
    assert "'a good plane' and 'a fine plane': " in capsys.readouterr().out


def test_the_notebook_has_no_outputs():
    assert [cell["source"][0] for cell in NOTEBOOK["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.slow  # half a minute, with the real teacher, encoder and texts
def test_the_notebook_runs_from_its_first_cell_to_its_last(here, monkeypatch, capsys):
    for name, value in {"TEXTS": "48", "SEEDS": "1"}.items():
        monkeypatch.setenv(f"ARMADA_EXAMPLE_{name}", value)
    names: dict = {"__name__": "notebook"}
    for number, cell in enumerate(NOTEBOOK["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"first_gain.ipynb, cell {number}", "exec"), names)
    assert names["features"].rows.shape == (48, 1280)
    assert set(names["results"]) == {"no pictures", "after pictures"}
    assert "gain " in capsys.readouterr().out
