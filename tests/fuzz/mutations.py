"""Ways to damage a file that know its format: bytes, JSON, YAML and lines. `containers.py` has tars and PNGs."""

from __future__ import annotations

import json
import random
import re
from typing import Any

_NUMBERS = (0, 1, -1, 127, 255, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
_WORDS = (
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\r",
        b"\n",
        b'"',
        b"'",
        b",",
        b"\\",
    ),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"../../escape", b"/etc/passwd", b"A" * 70_000, b"{" * 3000),
)


class Raw(str):
    """A text that is written into JSON as it is."""


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 10**18, 2**63, 10**30, -(10**30), "", "x", " ", "\n", "\0"),
    *("x" * 10_000, "../../escape", "/etc/passwd", "..\\x", "é", "\ud83d\ude00", "\x1b[31m", "=1+1", "<script>"),
    *([], {}, [None], [[]], {"": ""}, {"error": {"code": 1}}, [1, "x", None, {}], list(range(300))),
    *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw('"\\ud800"'), Raw("1E400")),
    *(Raw("[" * 20_000 + "]" * 20_000), Raw('{"a":' * 20_000 + "1" + "}" * 20_000), Raw("-0"), Raw("1.0"), Raw("")),
)


def damaged_bytes(random_numbers: random.Random, data: bytes) -> bytes:
    """Flip, overwrite, remove, repeat or insert bytes, at up to four places."""
    found = bytearray(data)
    for _ in range(random_numbers.randint(1, 4)):
        place = random_numbers.randrange(len(found) + 1)
        length = min(random_numbers.choice((1, 2, 4, 8, 64, 1000)), len(found) - place)
        match random_numbers.randrange(8):
            case 0 if found:
                found[place % len(found)] ^= 1 << random_numbers.randrange(8)
            case 1 if found:
                found[place % len(found)] = random_numbers.choice((0, 1, 127, 128, 255))
            case 2:
                del found[place:]
            case 3:
                del found[place : place + length]
            case 4:
                found[place:place] = found[place : place + length] * random_numbers.choice((1, 1, 100))
            case 5:
                found[place:place] = random_numbers.choice(_WORDS)
            case 6:
                number = random_numbers.choice(_NUMBERS)
                size, order = random_numbers.choice((2, 4, 8)), random_numbers.choice(("little", "big"))
                found[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
            case _:
                other = random_numbers.randrange(len(found) + 1)
                found[place : place + length] = found[other : other + length]
    return bytes(found)


def damaged_end(random_numbers: random.Random, data: bytes) -> bytes:
    """Damage the last kilobyte, where Parquet has its footer and zip its directory."""
    return data[:-1000] + damaged_bytes(random_numbers, data[-1000:])


def damaged_start(random_numbers: random.Random, data: bytes) -> bytes:
    """Damage the first 300 bytes, where most formats have their header."""
    return damaged_bytes(random_numbers, data[:300]) + data[300:]


def other_json(random_numbers: random.Random, data: bytes) -> bytes:
    """Change values and names of JSON: other types and sizes, missing and repeated names, and what is no JSON."""
    return _with_values(random_numbers, json.loads(data), ODD_VALUES).encode("utf-8", "surrogatepass")


def _with_values(random_numbers: random.Random, value: Any, odd: tuple[Any, ...]) -> str:
    for _ in range(random_numbers.choice((1, 1, 1, 2, 3))):
        value = _changed(random_numbers, value, odd)
    return _text(value)


def _changed(random_numbers: random.Random, value: Any, odd: tuple[Any, ...]) -> Any:
    """Return a value in which one place, at any depth, is another value."""
    if isinstance(value, (dict, list)) and value and random_numbers.random() < 0.85:
        place = random_numbers.randrange(len(value))
        if isinstance(value, list):
            changed = list(value)
            if random_numbers.random() < 0.1:
                del changed[place]
            elif random_numbers.random() < 0.1:
                changed.insert(place, changed[place])
            else:
                changed[place] = _changed(random_numbers, changed[place], odd)
            return changed
        name = list(value)[place]
        if (kind := random_numbers.random()) < 0.1:
            return {other: part for other, part in value.items() if other != name}
        if kind < 0.2:
            return {(Twice(name) if other == name else other): part for other, part in value.items()}
        if kind < 0.25:
            return {(Raw("") if other == name else other): part for other, part in value.items()}
        return {**value, name: _changed(random_numbers, value[name], odd)}
    return random_numbers.choice((*odd, [value], {"x": value}, str(value), value))


class Twice(str):
    """A name that is written twice."""


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        parts = []
        for name, part in value.items():
            parts += [f"{json.dumps(str(name))}:{_text(part)}"] * (2 if isinstance(name, Twice) else 1)
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


_ODD_YAML = tuple(
    map(
        Raw,
        (
            *("2020-99-99", "2020-01-01", "0x", "0o9", "1:60", ".nan", ".inf", "~", "yes", "!!binary x", "!!int x"),
            *("!!python/object/apply:os.system [touch escape]", "!!set {a}", "!!omap [a: 1]", "!!timestamp x", "!x y"),
            *("*unknown", "&a [*a]", "&b {x: 1}", "{? [a] : 1}", "{[a]: 1}", "{{a: 1}: 2}", "{1: a, true: b, null: c}"),
            *("{<<: 1}", "{<<: [1]}", "{<<: {a: 1}}", "'\\x'", '"\\ud800"', '"\\U00110000"', "|\n  x", ">\n y", "- x"),
            *(
                "[" * 3000 + "]" * 3000,
                "9" * 5000,
                "1e999",
                "!!float x",
                "!!bool x",
                "!!null x",
                "!!str",
                "{a: 1, a: 2}",
            ),
        ),
    )
)


def other_yaml(random_numbers: random.Random, data: bytes) -> bytes:
    """Change values of YAML as of JSON, with its tags, aliases, merges, dates and keys that are no texts."""
    import yaml

    text = _with_values(random_numbers, yaml.safe_load(data), (*ODD_VALUES, *_ODD_YAML))
    return text.encode("utf-8", "surrogatepass")


def odd_numbers(random_numbers: random.Random, data: bytes) -> bytes:
    """Replace one of the whole numbers in a text."""
    places = [match.span() for match in re.finditer(rb"[0-9]+", data)] or [(0, 0)]
    start, end = random_numbers.choice(places)
    odd = (b"", b"-1", b"0", b"9" * 5000, b"1" * 40, b"0" * 50, b"1e9", "٣".encode(), b" 5", b"0x10", b"1_000")
    return data[:start] + random_numbers.choice(odd) + data[end:]


def odd_lines(random_numbers: random.Random, data: bytes) -> bytes:
    """Change whole lines or fields of a text."""
    lines = data.split(b"\n")
    for _ in range(random_numbers.randint(1, 3)):
        place = random_numbers.randrange(len(lines))
        fields = re.split(rb"([,\t])", lines[place])
        fields[random_numbers.randrange(len(fields))] = random_numbers.choice((*_WORDS, b'"', b'"a\nb"', b'""', b",,,"))
        lines[place] = random_numbers.choice((b"".join(fields), b"", lines[place] * 2, lines[-1]))
    return random_numbers.choice((b"\n", b"\n", b"\r\n", b"\r")).join(lines)


def odd_json_lines(random_numbers: random.Random, data: bytes) -> bytes:
    """Change one line of JSON lines as JSON."""
    lines = data.splitlines()
    place = random_numbers.randrange(len(lines))
    lines[place] = other_json(random_numbers, lines[place])
    return b"\n".join(lines) + b"\n"
