"""A teacher or an encoder of an installed package is found by its entry point, and its name is listed."""

import sys

import pytest

from teacher_cache import SpecError, open_encoder, open_teacher

CODE = """
import numpy as np


class Sounds:
    batch_size = 2

    def __init__(self, spec):
        self.dimension = spec.options({"dimension": 3})["dimension"]
        self.spec = {"kind": "sounds", "dimension": self.dimension}

    def encode(self, pictures, prompts):
        return np.ones((len(pictures), self.dimension), np.float32)


class Films:
    licence, price_usd = "CC0", None

    def __init__(self, spec):
        self.spec = {"kind": "films", "model": spec.model}

    def draw(self, requests):
        yield from ()
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution as pip leaves it, with an encoder and a teacher."""
    (tmp_path / "someones_sounds.py").write_text(CODE)
    facts = tmp_path / "someones_sounds-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-sounds\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[armada.encoders]\nsounds = someones_sounds:Sounds\n\n[armada.teachers]\nfilms = someones_sounds:Films\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("someones_sounds", None)


def test_an_encoder_and_a_teacher_are_found_by_their_entry_points(installed):
    encoder = open_encoder("sounds?dimension=5")
    assert (encoder.dimension, encoder.text) == (5, "sounds?dimension=5")
    assert open_teacher("films:silent").spec == {"kind": "films", "model": "silent"}


def test_the_error_of_an_unknown_name_lists_those_of_installed_packages(installed):
    with pytest.raises(SpecError, match=r"unknown encoder 'sound'.*sounds"):
        open_encoder("sound")


def test_a_cache_is_built_with_an_encoder_of_an_installed_package(installed, tmp_path):
    from teacher_cache import BuildOptions, Cache, build, choose, open_features
    from tests import fakes

    cache = Cache(str(tmp_path / "cache"), create=True)
    build(cache, ["a", "b"], fakes.teacher(), open_encoder("sounds"), BuildOptions())
    features = open_features(cache, *choose(cache, None, None))
    assert features.take(features.rows_of(["b", "a"])).tolist() == [[1.0] * 3] * 2
