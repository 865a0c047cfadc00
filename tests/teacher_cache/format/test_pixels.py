"""Pictures become the pixels that a viewer shows over white, whatever their format, and in one place only."""

import ast
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teacher_cache import PictureError, as_png, open_picture, picture_suffix
from teacher_cache.format import pixels
from teacher_cache.format.pixels import SUFFIXES, picture_fault

ROOT = Path(pixels.__file__).parents[2]
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8))


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def shown(image, format="PNG", **options):
    return np.asarray(open_picture(encoded(image, format, **options)))


def test_pictures_become_pixels_in_one_place():
    opened = set()
    for path in [*ROOT.glob("teacher_cache/**/*.py"), *ROOT.glob("distill/**/*.py"), *ROOT.glob("pipelines/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("Image"):
                opened.add(path.relative_to(ROOT).as_posix())
    # The pictogram teacher composes drawings that it has rendered itself: they aren't pictures of a cache yet.
    assert opened == {"teacher_cache/format/pixels.py", "teacher_cache/teachers/pictogram.py"}


@pytest.mark.parametrize(("format", "suffix"), SUFFIXES.items())
def test_every_known_format_is_opened_and_named_by_its_bytes(format, suffix):
    data = encoded(COLOURS, format)
    assert picture_suffix(data) == suffix
    image = open_picture(data)
    assert (image.mode, image.size) == ("RGB", (12, 8))
    assert picture_fault(data) is None
    assert np.array_equal(np.asarray(open_picture(as_png(data))), np.asarray(image))


@pytest.mark.parametrize("format", ["BMP", "PPM", "TGA", "ICO", "EPS", "PDF", "JPEG2000", "PCX", "DDS"])
def test_an_unknown_format_is_not_opened(format):
    data = encoded(COLOURS, format)
    assert picture_suffix(data) is None
    with pytest.raises(PictureError, match="expected PNG, JPEG, WEBP, GIF, AVIF, TIFF"):
        open_picture(data)


def test_bytes_of_an_unknown_format_behind_known_first_bytes_are_not_opened():
    with pytest.raises(PictureError, match="not a picture"):
        open_picture(b"GIF89a" + encoded(COLOURS, "BMP"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_picture_is_turned_upright_by_its_exif_orientation(format):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_picture(encoded(COLOURS, format, exif=exif)).size == (8, 12)
    if format in LOSSLESS:
        turned = shown(COLOURS, format, exif=exif, **LOSSLESS[format])
        assert np.array_equal(turned, np.rot90(np.asarray(COLOURS), -1))


def test_a_tiff_is_turned_upright_too():
    assert open_picture(encoded(COLOURS, "TIFF", tiffinfo={274: 6})).size == (8, 12)


def test_damaged_exif_is_ignored():
    plain = encoded(COLOURS, "JPEG")
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\xff\xff"
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(damaged) + 2) + damaged + plain[2:]
    assert np.array_equal(np.asarray(open_picture(data)), np.asarray(open_picture(plain)))


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 0, 0), (0, 255, 0)])
@pytest.mark.parametrize("format", LOSSLESS)
def test_pixels_that_do_not_show_change_nothing(format, hidden):
    image = COLOURS.convert("RGBA")
    layer = np.array(image)
    layer[:4] = (*hidden, 0)
    options = {"exact": True} if format == "WEBP" else {}
    found = shown(Image.fromarray(layer), format, **LOSSLESS[format], **options)
    assert (found[:4] == 255).all()
    assert np.array_equal(found[4:], np.asarray(COLOURS)[4:])


def test_a_half_transparent_pixel_is_laid_over_white():
    assert shown(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))[0, 0].tolist() == [127, 127, 127]
    assert shown(Image.new("LA", (1, 1), (0, 0)))[0, 0].tolist() == [255, 255, 255]


def test_a_drawing_in_the_colour_of_its_hidden_pixels_is_not_blank():
    layer = np.zeros((16, 16, 4), np.uint8)
    layer[4:12, 4:12, 3] = 255
    assert picture_fault(encoded(Image.fromarray(layer))) is None
    layer[..., 3] = 0
    assert picture_fault(encoded(Image.fromarray(layer))) == ("blank", "every pixel has the colour (255, 255, 255)")


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_is_white(format):
    image = COLOURS.quantize(8)
    clear = np.asarray(image) == 3
    found = shown(image, format, transparency=3)
    assert clear.any()
    assert (found[clear] == 255).all()
    assert np.array_equal(found[~clear], np.asarray(image.convert("RGB"))[~clear])


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_the_transparent_colour_without_a_palette_is_white(mode):
    image = COLOURS.convert(mode)
    corner = image.getpixel((0, 0))
    clear = corner if isinstance(corner, int) else tuple(corner)
    found = shown(image, transparency=clear if mode != "1" else int(corner > 0))
    assert found[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_greys_of_16_bits_are_scaled_and_not_cut_off(format):
    values = np.linspace(0, 65535, 96).astype(np.uint16).reshape(8, 12)
    found = shown(Image.fromarray(values), format).astype(int)
    assert (found[..., 0] == found[..., 2]).all()
    assert np.abs(found[..., 0] - values / 257).max() <= 0.5


def test_the_transparent_grey_of_16_bits_is_white():
    values = np.arange(96, dtype=np.uint16).reshape(8, 12) * 600
    found = shown(Image.fromarray(values), transparency=600)
    assert found[0, :3, 0].tolist() == [0, 255, 5]


def test_colours_of_16_bits_keep_their_upper_bits():
    pixels = np.random.default_rng(1).integers(0, 65536, (4, 4, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    assert np.array_equal(np.asarray(open_picture(data)), pixels >> 8)


def test_32_bits_per_channel_are_refused_in_words():
    with pytest.raises(PictureError, match="save it with 8 or 16 bits"):
        open_picture(encoded(COLOURS.convert("F"), "TIFF"))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_first_frame_of_an_animation_counts(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    found = shown(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    size = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 6, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    with pytest.raises(PictureError):
        open_picture(head)
    small = encoded(COLOURS)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 95)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    assert picture_fault(small) == ("undecodable", "12 x 8 pixels: expected at most 95; scale it down")


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_truncated_picture_is_undecodable_and_no_traceback(format):
    data = encoded(COLOURS.resize((64, 64)), format)
    for size in range(0, len(data) - 16, max(1, len(data) // 40)):
        fault = picture_fault(data[:size])
        assert fault is None or fault[0] == "undecodable"
    assert picture_fault(data[:40])[0] == "undecodable"
