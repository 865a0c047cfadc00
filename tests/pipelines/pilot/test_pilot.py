"""`armada pilot` draws what it is told to, pays for nothing twice, and says on one page what it found."""

import json
import re

import numpy as np
import pytest
import yaml

from distill import load_card, load_splits
from pipelines.pilot.page import html
from pipelines.pilot.pilot import PilotOptions, run_pilot
from teacher_cache import ArmadaError, BuildOptions, Cache, build
from tests import fakes
from tests.pipelines.cli import FAKES, armada


class TellingEncoder(fakes.FakeEncoder):
    """Reads the prompt's number from the picture's seed: `knows` features that tell odd prompts from even ones."""


def rows_of(tmp_path, count=260, tell=True):
    """Return a folder of rows whose label is whether the text has the word `red`."""
    generator = np.random.default_rng(0)
    rows = [{"text": f"{'red' if red else 'blue'} thing {number}", "label": int(red)}
            for number, red in enumerate(generator.integers(0, 2, count))]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path
