"""The modules of benchmarks/."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
NAMES = {"all": "all", "gpu": "gpu", "machine": "parts.machine", "sizes": "parts.sizes", "table": "parts.table"}


@pytest.fixture
def modules(monkeypatch):
    """The modules of benchmarks/, which import each other from their folder; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield {name: importlib.import_module(module) for name, module in NAMES.items()}
    for module in (*NAMES.values(), "parts"):
        del sys.modules[module]
