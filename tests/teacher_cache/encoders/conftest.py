"""The models that all tests of encoders share."""

import shutil

import pytest

from teacher_cache import minilm_folder
from tests.teacher_cache.encoders.tiny_encoders import TOWERS
from tests.teacher_cache.tiny_models import save_open_clip, save_stable_diffusion, save_tower


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with all tiny models and MiniLM, which tests must not change."""
    folder = tmp_path_factory.mktemp("models")
    save_open_clip(folder)
    for kind in TOWERS:
        save_tower(folder / kind, kind)
    save_stable_diffusion(folder / "sd")
    shutil.copytree(minilm_folder(), folder / "minilm")
    return folder
