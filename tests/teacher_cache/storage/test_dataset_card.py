"""The dataset card states where everything comes from; no file of a cache has a secret."""

import shutil
from pathlib import Path

import yaml

from teacher_cache import BuildOptions, build
from tests.teacher_cache.maintenance.caches import PROMPTS, adapters


def test_the_dataset_card_states_prompts_licence_cost_dates_and_rounding_error(cache):
    options = BuildOptions(prompts="captions.jsonl")
    build(cache, PROMPTS, *adapters("tests.fakes:FakeTeacher?price=0.05"), options, clock=lambda: 1_700_000_000.0)
    text = (Path(str(cache.store)) / "README.md").read_text()
    _, front, body = text.split("---", 2)
    assert yaml.safe_load(front)["license_name"] == "CC0"
    for fact in (
        "captions.jsonl",
        "Pictures: 30",
        "1.50 USD",
        "2023-11-14",
        "8 numbers per feature, float16",
        "'style'",
    ):
        assert fact in body, fact
    assert 0 < float(body.split("largest rounding error ")[1].split()[0]) < 2**-11 + 1e-6


def test_no_secret_of_the_environment_is_in_any_file(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    build(cache, [*PROMPTS, "[transient] x"], *adapters())
    shutil.copytree(str(cache.store), tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()
