"""`armada doctor` says what a machine has, and no secret; `armada` alone says what to do next."""

import json
import re

import pytest

from pipelines import doctor
from teacher_cache import ArmadaError, Cache, build
from tests.fakes import encoder, teacher
from tests.pipelines.cli import FAKES
from tests.pipelines.run.test_mending import armada


@pytest.fixture
def prompts_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a dog\na cat\n[refused] something\n")
    return path


def values(found):
    return {one.name: one.value for one in found}


def test_credentials_are_named_and_never_shown():
    found = doctor.examine(environment={"OPENAI_API_KEY": "sk-secret", "HF_HUB_OFFLINE": "1"})
    assert values(found)["OPENAI_API_KEY"] == "set"
    assert values(found)["HF_TOKEN"] == "not set"
    assert "sk-secret" not in str(found)


def test_a_missing_package_is_named_with_the_command_that_installs_it_and_is_exit_code_3(monkeypatch):
    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "no-such-package"))
    run = armada("doctor")
    assert run.exit_code == 3
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("no-such-package")]
    assert line.endswith("-m pip install no-such-package")


def test_little_room_and_a_hub_that_is_not_reachable_are_said(monkeypatch):
    monkeypatch.setattr(doctor, "LITTLE_ROOM", 1 << 70)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    found = doctor.examine(environment={})
    assert "not reachable" in values(found)["model hub"]
    assert [one.name for one in found if one.advice] == ["working folder", "state folder", "cache folder"]


def test_a_cache_is_one_line_with_its_failed_rows(tmp_path, prompts_file):
    folder = tmp_path / "c"
    assert armada("cache", "build", prompts_file, *FAKES, "--cache", folder).exit_code == 3
    found = json.loads(armada("doctor", folder, "--json").stdout)["found"]
    (line,) = [one for one in found if one["name"].startswith("teacher ")]
    assert line["value"].startswith("2 pictures, 1 failed, 1 encoders, ")
    assert line["advice"].endswith(f"armada cache retry {folder}")
    with pytest.raises(ArmadaError, match="no cache here"):
        armada("doctor", tmp_path / "nothing")


def test_armada_alone_says_what_it_is_and_names_commands_that_exist():
    run = armada()
    assert run.exit_code == 0
    named = re.findall(r"^  armada ((?:cache )?[a-z]+)", run.stdout, re.MULTILINE)
    assert len(named) == 7
    for words in named:
        assert armada(*words.split(), "--help").exit_code == 0


def test_a_command_that_a_message_names_works_in_a_folder_with_spaces(tmp_path):
    folder = tmp_path / "a folder"
    build(Cache(str(folder), create=True), ["one", "[refused] two"], teacher(), encoder())
    found = json.loads(armada("doctor", folder, "--json").stdout)["found"]
    (line,) = [one for one in found if one["name"].startswith("teacher ")]
    assert line["advice"].endswith(f"armada cache retry '{folder}'")
