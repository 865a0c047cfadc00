"""The files in deploy/ pass their linters, and every option of ours that they use exists.

`sky launch --dryrun deploy/sky-build.yaml` wants SkyPilot's catalogue from the internet, so that it isn't run here.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.pipelines.cli import ROOT, armada

DEPLOY = ROOT / "deploy"


def test_the_scripts_have_no_syntax_error():
    task = yaml.safe_load((DEPLOY / "sky-build.yaml").read_text())
    scripts = [(DEPLOY / "slurm-build.sh").read_text(), task["run"], task["setup"]]
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert not checked.returncode, checked.stderr


def lint(name, *arguments, text=None):
    """Run a linter of this environment and return what it finds; skip where its package has no wheel."""
    program = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"no {name} for this machine")
    return subprocess.run([program, *arguments], input=text, capture_output=True, text=True).stdout


def test_shellcheck_finds_nothing_in_the_scripts():
    task = yaml.safe_load((DEPLOY / "sky-build.yaml").read_text())
    scripts = [(DEPLOY / "slurm-build.sh").read_text(), task["run"], task["setup"]]
    assert [lint("shellcheck", "--shell=bash", "-", text=script) for script in scripts] == ["", "", ""]
    assert "SC2086" in lint("shellcheck", "--shell=bash", "-", text="echo $1")


def test_hadolint_finds_nothing_in_the_dockerfile():
    assert lint("hadolint", "--no-color", "-", text=(DEPLOY / "Dockerfile").read_text()) == ""
    assert "DL3006" in lint("hadolint", "--no-color", "-", text="FROM debian")


def test_the_task_names_only_fields_of_skypilot_and_variables_that_it_sets():
    task = yaml.safe_load((DEPLOY / "sky-build.yaml").read_text())
    assert set(task) == {"name", "num_nodes", "resources", "envs", "workdir", "setup", "run"}
    assert set(task["resources"]) == {"accelerators", "use_spot", "disk_size"}
    given = {"SKYPILOT_NODE_RANK", "SKYPILOT_NODE_IPS", "SKYPILOT_NUM_NODES", "SKYPILOT_NUM_GPUS_PER_NODE"}
    assert set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", task["run"])) <= {*task["envs"], *given, "ARMADA_HOST"}


def test_the_image_copies_what_the_package_is_built_from():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = {name.strip("./") for line in re.findall(r"^COPY (.*)$", dockerfile, re.M) for name in line.split()[:-1]}
    assert {"pyproject.toml", "README.md", "teacher_cache", "distill", "pipelines", "data"} <= copied
    for name in copied:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["sky-build.yaml", "slurm-build.sh"])
def test_every_option_of_a_build_exists(name):
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    (command,) = re.findall(r"armada cache build .*", text)
    known = armada("cache", "build", "--help", COLUMNS=300, TERM="dumb").stdout
    options = re.findall(r"--[a-z-]+", command)
    assert len(options) >= 6
    for option in options:
        assert option in known, option
