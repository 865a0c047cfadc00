"""The bytes of a picture from any server become pixels, or PictureError, within bounds of memory and time."""

import io

import pytest
from PIL import Image

from teacher_cache.format.pixels import SUFFIXES, as_png, open_picture, picture_fault
from tests.fakes import png
from tests.fuzz.containers import odd_png
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, damaged_start

MOST_MEGABYTES = 1200  # the picture of 80 million pixels, laid over white: four times four bytes per pixel


def pictures(format):
    """Return pictures of one format in the modes that it has."""
    image = Image.open(io.BytesIO(png(1, 24)))
    modes = {
        "PNG": ("RGB", "RGBA", "L", "P", "1", "I;16"),
        "GIF": ("P",),
        "TIFF": ("RGB", "CMYK", "I;16"),
        "JPEG": ("RGB", "CMYK", "L"),
    }
    for mode in modes.get(format, ("RGB", "RGBA")):
        stream = io.BytesIO()
        found = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
        more = (
            {"save_all": True, "append_images": [found.transpose(Image.Transpose.ROTATE_90)]}
            if format in ("GIF", "WEBP")
            else {}
        )
        found.save(stream, format, **more)
        yield stream.getvalue()


@pytest.mark.parametrize("format", list(SUFFIXES))
def test_a_picture_becomes_pixels_or_an_error(tmp_path, format):
    def read(data):
        fault = picture_fault(data)
        if fault is None or fault[0] == "blank":
            as_png(data)
            assert open_picture(data).mode == "RGB"

    damage = (
        (odd_png, odd_png, damaged_bytes, damaged_start)
        if format == "PNG"
        else (damaged_bytes, damaged_start, damaged_start)
    )
    seeds = list(pictures(format))
    fuzz(f"picture.{SUFFIXES[format]}", seeds, damage, read, tmp_path, count=150, megabytes=MOST_MEGABYTES)
