"""A contact sheet: prompts and the pictures that the teacher drew for them, in one PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache import Cache, choose, image_key, in_tar_order, open_picture, prompt_key, read_pictures

_SIDE, _TEXT, _GAP, _COLUMNS = 224, 84, 16, 4  # pixels


def draw_contact_sheet(cache: Cache, prompts: Sequence[str], path: Path) -> Path:
    """Write a PNG with each prompt and its first picture, four per row, and return its path.

    Raise ArmadaError if the cache has several teachers.
    """
    from PIL import Image, ImageDraw, ImageFont

    teacher, _ = choose(cache, None, None)
    texts = {image_key(teacher.digest, prompt_key(prompt)): prompt for prompt in prompts}
    images = cache.images(teacher)
    rows = images.filter(pc.is_in(images["image_key"], pa.array(list(texts))))
    rows = in_tar_order(rows)
    pictures = dict(zip(rows["image_key"].to_pylist(), read_pictures(cache, rows), strict=True))

    font = ImageFont.load_default(13)
    lines = -(-len(texts) // _COLUMNS)
    size = (_GAP + _COLUMNS * (_SIDE + _GAP), _GAP + lines * (_SIDE + _TEXT + _GAP))
    sheet = Image.new("RGB", size, "#f4f4f2")
    draw = ImageDraw.Draw(sheet)
    for place, (key, prompt) in enumerate(texts.items()):
        left = _GAP + place % _COLUMNS * (_SIDE + _GAP)
        top = _GAP + place // _COLUMNS * (_SIDE + _TEXT + _GAP)
        if key in pictures:
            picture = open_picture(pictures[key]).resize((_SIDE, _SIDE))
            sheet.paste(picture, (left, top))
        words = textwrap.wrap(" ".join(prompt.split()), 34, max_lines=4, placeholder=" ...")
        draw.multiline_text((left, top + _SIDE + 6), "\n".join(words), fill="#222222", font=font, spacing=3)
    sheet.save(path, "PNG")
    return path
