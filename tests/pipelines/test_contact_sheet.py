"""The contact sheet shows each prompt's picture as a viewer does."""

import numpy as np
from PIL import Image

from pipelines.contact_sheet import draw_contact_sheet
from teacher_cache import build, open_teacher
from tests import fakes


def test_a_picture_on_a_transparent_ground_lies_on_white(tmp_path, cache):
    folder = tmp_path / "pictures"
    folder.mkdir()
    layer = np.zeros((224, 224, 4), np.uint8)  # what does not show is black
    layer[:112] = (255, 0, 0, 255)
    Image.fromarray(layer).save(folder / "a flag.png")
    build(cache, ["a flag"], open_teacher(f"folder:{folder}"), fakes.encoder())
    sheet = np.asarray(Image.open(draw_contact_sheet(cache, ["a flag", "not there"], tmp_path / "sheet.png")))
    assert sheet[60, 120].tolist() == [255, 0, 0]
    assert sheet[200, 120].tolist() == [255, 255, 255]
