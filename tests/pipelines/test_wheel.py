"""The wheel contains everything that the command line needs, task cards included, and runs from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def armada(tmp_path_factory):
    """Install the wheel into an environment of its own, over the installed packages, and return its console script."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("armada_distill-*.whl")
    environment = folder / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # The .pth file adds the installed packages, but not this checkout, whose editable install is a .pth file too.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    code = "import teacher_cache; print(teacher_cache.__file__)"
    (site / "zz-packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    words = [python, "-P", "-c", code] if sys.version_info >= (3, 11) else [python, "-c", code]
    found = subprocess.check_output(words, cwd=folder, env=without_checkout(), text=True)
    assert Path(found.strip()).is_relative_to(environment)
    return environment / "bin" / "armada"


def without_checkout():
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(armada, *words, folder):
    return subprocess.run([armada, *words], cwd=folder, env=without_checkout(), capture_output=True, text=True)


def test_help_and_tasks_run_from_another_folder(armada, tmp_path):
    help_text = run(armada, "--help", folder=tmp_path)
    assert help_text.returncode == 0, help_text.stderr
    assert "cache" in help_text.stdout
    tasks = run(armada, "tasks", folder=tmp_path)
    assert tasks.returncode == 0, tasks.stderr
    assert "demo/sentiment" in tasks.stdout
    assert "latin-1" in run(armada, "tasks", "demo/sentiment", folder=tmp_path).stdout
