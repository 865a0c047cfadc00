"""The demo with real parts at a tiny size, and the conclusions that it may draw."""

import json
from contextlib import nullcontext

import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from pipelines.demo import ARMS, DemoSize, run_demo, verdict
from pipelines.demo_few_shot import ARMS as FEW_SHOT_ARMS
from teacher_cache import Cache


def runs(seeds, *accuracy):
    return [
        {"arm": arm, "seed": seed, "metrics": {"accuracy": value}, "train_seconds": 1.0}
        for arm, value in zip(ARMS, accuracy, strict=True)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_under_five_seeds_the_verdict_cannot_tell_however_large_the_difference(seeds):
    sentence = verdict(runs(seeds, 0.5, 0.99, 0.25))
    assert "cannot tell" in sentence
    assert "pictures +0.490 against undistilled and +0.740 against shuffled pictures" in sentence
    assert f"{seeds} seed" in sentence


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    AcceleratorState._reset_state(reset_partial_state=True)  # other tests of this process train without bf16
    return out, run_demo(out, DemoSize(train=40, test=32, seeds=(0,), epochs=1, pretraining=1))


def test_results_have_the_promised_form(demo):
    out, results = demo
    assert json.loads((out / "results.json").read_text()) == results
    assert results["cache"] == {"rows": 40, "unique_prompts": 40, "calls_first_build": 40, "calls_second_build": 0}
    assert [run["arm"] for run in results["arms"]] == list(ARMS)
    assert [run["arm"] for run in results["few_shot"]] == list(FEW_SHOT_ARMS)
    for run in [*results["arms"], *results["few_shot"]]:
        assert set(run) == {"arm", "seed", "metrics", "train_seconds"}
        assert set(run["metrics"]) == {"accuracy", "macro_f1"}
        assert 0 <= run["metrics"]["accuracy"] <= 1
    assert "cannot tell" in results["verdict"]


def test_the_students_with_all_labels_learn_by_the_default_objective_beside_one_without_a_teacher(demo):
    folder = demo[0] / "runs" / "40-rows"
    records = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/run.json")}
    said = {name: record["identity"]["settings"].get("objective") for name, record in records.items()}
    assert said == {"undistilled-seed0": None, "pictures-seed0": "crossfit", "shuffled-pictures-seed0": "crossfit"}


def test_the_contact_sheet_shows_twelve_pictures(demo):
    sheet = Image.open(demo[0] / "pictures.png").convert("RGB")
    for place in range(12):
        left, top = 16 + place % 4 * 240, 16 + place // 4 * 324
        colours = sheet.crop((left, top, left + 224, top + 224)).getcolors(100_000)
        assert len(colours) > 3, f"nothing is drawn at place {place}"


def test_of_the_students_one_is_kept_to_look_at_and_nothing_that_was_derived_from_the_cache(demo):
    out, _ = demo
    kept = {str(path.parent.relative_to(out)) for path in out.rglob("model.safetensors")}
    assert {path for path in kept if "pretrained" not in path} == {"runs/40-rows/pictures-seed0/student"}
    assert not [path for path in Cache(str(out / "cache")).derived_folder.rglob("*.safetensors")]


def test_a_demo_whose_build_is_stopped_ends_as_an_interrupted_one_and_goes_on_later(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path, DemoSize(train=40, test=32, seeds=(0,)), lambda: nullcontext(lambda: True))
    assert not (tmp_path / "results.json").exists()
    assert not (tmp_path / "runs").exists()


def test_running_the_demo_again_makes_no_call_and_trains_nothing(demo, monkeypatch):
    out, results = demo
    monkeypatch.setattr("pipelines.run.training._train_and_export", lambda *_: pytest.fail("trained twice"))
    assert run_demo(out, DemoSize(train=40, test=32, seeds=(0,), epochs=1, pretraining=1)) == results
