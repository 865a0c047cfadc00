"""Ways to damage tars and PNGs. They keep checksums right, to get past the first check."""

from __future__ import annotations

import random
import struct
import zlib
from functools import cache

from tests.fuzz.mutations import damaged_bytes


def odd_tar(random_numbers: random.Random, data: bytes) -> bytes:
    """Change a field of a member's header, and make its checksum right again."""
    found = bytearray(data)
    headers = [place for place in range(0, len(found) - 511, 512) if found[place + 257 : place + 262] == b"ustar"]
    for _ in range(random_numbers.randint(1, 2)):
        place = random_numbers.choice(headers)
        header = found[place : place + 512]
        match random_numbers.randrange(5):
            case 0:
                header[156:157] = random_numbers.choice(
                    (b"x", b"g", b"L", b"K", b"S", b"1", b"2", b"3", b"5", b"6", b"V", b"\0")
                )
            case 1:
                number = random_numbers.choice((-1, -512, -(2**40), 2**33, 2**60, 2**63 - 1, -(2**63), 512, 0))
                header[124:136] = (b"\xff" if number < 0 else b"\x80") + number.to_bytes(11, "big", signed=True)
            case 2:
                header[124:136] = random_numbers.choice(
                    (b"77777777777\0", b"00000000000\0", b"xxxxxxxxxxxx", b"-0000000001\0")
                )
            case 3:
                name = random_numbers.choice(
                    (b"../../escape", b"/etc/passwd", b"", b"x", b"\xff" * 99, b"a" * 64 + b".json")
                )
                header[:100] = name.ljust(100, b"\0")
            case _:
                at = random_numbers.choice((100, 136, 157, 265, 329, 345, 482))
                header[at : at + 12] = random_numbers.choice((b"\xff" * 12, b"9" * 12, b"\0" * 12))
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % (sum(header) % 8**6)
        found[place : place + 512] = header
    return bytes(found)


def odd_png(random_numbers: random.Random, data: bytes) -> bytes:
    """Change, repeat, remove or add a chunk of a PNG, and make its checksum right again."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = random_numbers.randrange(len(chunks))
    name, content = chunks[number]
    match random_numbers.randrange(5):
        case 0:
            width, height = (random_numbers.choice((0, 1, 60_000, 2**31 - 1, 2**32 - 1)) for _ in range(2))
            depth, colour = random_numbers.choice((1, 2, 4, 8, 16, 3)), random_numbers.choice((0, 2, 3, 4, 6, 1))
            chunks[0] = (
                b"IHDR",
                struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, random_numbers.randrange(2)),
            )
        case 1:
            chunks[number] = (name, damaged_bytes(random_numbers, content))
        case 2:
            chunks[number:number] = [(name, content)] * 2
        case 3:
            del chunks[number]
        case _:
            bomb = _bomb()
            odd = (
                (b"zTXt", b"a\0\0" + bomb),
                (b"iCCP", b"a\0\0" + bomb),
                (b"iTXt", b"a\0\1\0\0\0" + bomb),
                (b"tRNS", b""),
            )
            more = ((b"acTL", struct.pack(">II", 2**31, 0)), (b"PLTE", b"x" * 769), (b"eXIf", b"MM\0*\xff\xff\xff\xff"))
            chunks[1:1] = [random_numbers.choice((*odd, *more, (b"IDAT", bomb)))]
    parts = [
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    ]
    return data[:8] + b"".join(parts)


@cache
def _bomb() -> bytes:
    """Return 50 kilobytes that decompress to 50 megabytes."""
    return zlib.compress(bytes(50_000_000), 9)
