"""The file format of a picture, by its first bytes and never by what a server, a file name or a plug-in says."""

from __future__ import annotations

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)
_AVIF_BRANDS = (b"avif", b"avis")


def suffix_of(picture: bytes) -> str:
    """Return the suffix of a picture's format: png, jpg, webp, avif, gif, bmp or tiff; "" if it has none of them."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "webp"
    if picture[4:8] == b"ftyp":
        size = min(int.from_bytes(picture[:4], "big"), 256)
        brands = [picture[8:12], *(picture[start : start + 4] for start in range(16, size, 4))]
        return "avif" if any(brand in _AVIF_BRANDS for brand in brands) else ""
    return next((suffix for start, suffix in _STARTS if picture.startswith(start)), "")
