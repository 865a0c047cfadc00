"""Import contracts, and what the command line and the packages load when they are imported."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "diffusers", "open_clip", "pyarrow", "numpy", "fsspec", "pydantic", "sklearn")


def test_import_contracts_are_kept():
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom pipelines.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout
    assert "cache" in output
    assert "LOADED []" in output


def test_stage_one_and_the_cards_load_no_torch():
    code = "import sys, teacher_cache, distill.cards.cards, distill.tasks.splits; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "False"
