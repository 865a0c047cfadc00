"""Pictures become pixels here and nowhere else, so that every part of the program sees what a viewer shows.

Only the formats in SUFFIXES are opened, and only up to MAX_PIXELS, which is checked before anything is decoded. A
picture is turned upright by its EXIF orientation, laid over white where it is transparent, and reduced to 8 bits per
channel; of an animation, the first frame counts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from teacher_cache.errors import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 80_000_000  # width x height: 240 MB as RGB
SUFFIXES = {
    "PNG": "png",
    "JPEG": "jpg",
    "WEBP": "webp",
    "GIF": "gif",
    "AVIF": "avif",
    "TIFF": "tif",
}  # by Pillow's name
_FIRST_BYTES = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpg": re.compile(rb"\xff\xd8\xff"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "gif": re.compile(rb"GIF8[79]a"),
    "avif": re.compile(rb"....ftyp(avif|avis|(mif1|miaf|msf1).{4}(....)*?(avif|avis))", re.DOTALL),
    "tif": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
}


def picture_suffix(data: bytes) -> str | None:
    """Return the file suffix of a picture by its first bytes (a value of SUFFIXES), or None for any other format."""
    return next((suffix for suffix, pattern in _FIRST_BYTES.items() if pattern.match(data[:256])), None)


def open_picture(data: bytes) -> Image:
    """Return the pixels of a picture as a viewer shows them over white: a PIL image, RGB, 8 bits per channel.

    Raise PictureError if the bytes are not a picture in one of the formats SUFFIXES, are damaged, or have more than
    MAX_PIXELS.
    """
    from PIL import Image

    with _opened(data) as image:
        upright = _upright(image)
        if upright.mode == "RGB" and "transparency" not in upright.info:
            return upright
        eight_bits = _eight_bits(upright, image.format)
        if eight_bits.has_transparency_data:
            layer = eight_bits.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        return eight_bits.convert("RGB")


def picture_fault(data: bytes) -> tuple[str, str] | None:
    """Return why a teacher's answer is not a usable picture, as (reason, message), or None if it is one.

    The reason is "undecodable" if it has no pixels (see `open_picture`), and "blank" if all pixels have one colour.
    """
    try:
        ranges: Any = open_picture(data).getextrema()  # of each channel
    except PictureError as error:
        return "undecodable", str(error)
    if all(low == high for low, high in ranges):
        return "blank", f"every pixel has the colour {tuple(low for low, _ in ranges)}"
    return None


def as_png(data: bytes) -> bytes:
    """Return the pixels of a picture as a PNG, for viewers that can't show its format. Raise as `open_picture`."""
    stream = io.BytesIO()
    open_picture(data).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def _opened(data: bytes) -> Iterator[Image]:
    """Open a picture of a known format and an allowed size; whatever a decoder raises becomes a PictureError."""
    from PIL import Image

    if picture_suffix(data) is None:
        raise PictureError(f"{len(data)} bytes that are not a picture: expected {', '.join(SUFFIXES)}")
    try:
        with Image.open(io.BytesIO(data), formats=list(SUFFIXES)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PictureError(f"{width} x {height} pixels: expected at most {MAX_PIXELS:,}; scale it down")
            yield image
    except (PictureError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # decoders raise many types for damaged bytes; a bomb is a Warning or an error of its own
        raise PictureError(f"{len(data)} bytes that are not a picture: {error or type(error).__name__}") from None


def _upright(image: Image) -> Image:
    """Decode the first frame and turn it by its EXIF orientation; damaged EXIF is ignored, as viewers do."""
    from PIL import ExifTags, ImageOps

    image.seek(0)
    image.load()
    try:
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
        return image if is_upright else ImageOps.exif_transpose(image)
    except Exception:  # the parser of EXIF raises many types
        return image.copy()


def _eight_bits(image: Image, format: str | None) -> Image:
    """Return an image with 8 bits per channel. Pillow would cut 16-bit greys off at 255 instead of scaling them."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and format == "PNG"):
        values = np.asarray(image).astype(np.uint32)
        grey = Image.fromarray(((values.clip(0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return grey
    if image.mode in ("I", "F"):
        raise PictureError("32 bits per channel, whose white is not defined: save it with 8 or 16 bits")
    if image.mode == "1" and "transparency" in image.info:
        return image.convert("L")
    return image
