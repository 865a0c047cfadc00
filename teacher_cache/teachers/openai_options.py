"""The options of the openai teacher: the server's address and name, the fields of a request's body, prices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers.prices import Prices, check_price, read_prices
from teacher_cache.teachers.providers.presets import OPENAI

KEY_BODY = {  # sent unchanged if given; they change the picture, and so are part of its key
    "size": "",
    "quality": "",
    "style": "",
    "background": "",
    "moderation": "",
    "output_format": "",
    "output_compression": 0,
}
BODY = {**KEY_BODY, "response_format": ""}  # how a picture is sent is not part of its key
OPTIONS = {
    **BODY,
    "base_url": OPENAI,
    "as": "",  # the server's name in the key, in place of its address; or the address that it had when it drew
    "revision": "",  # the user's own name for the server's model version: part of the key
    # Whether to send each picture's own seed. auto: for the second and later samples of a prompt, except to OpenAI,
    # whose pictures differ without one; the first sample has the key that it has without --samples.
    "seed": ("auto", "true", "false"),
    "n": 1,  # pictures of one prompt per call, with --samples
    "concurrency": 8,
    "rpm": 0.0,  # requests per minute; 0 is no limit
    "timeout": 300.0,  # seconds per call, until its last byte
    "max_mb": 50,  # the largest body of a reply
    "key_env": "",  # the environment variable that contains the API key; OPENAI_API_KEY for OpenAI's own server
    "price": "",  # dollars per picture
    "prices": "",  # or a YAML file in the form of prices.yaml
    "licence": "",
}
_PORTS = {"http": 80, "https": 443}


def check_numbers(text: str, options: Mapping[str, Any]) -> None:
    """Raise SpecError, naming the spec `text`, for a number that is too small, infinite or none."""
    for name, least in (("n", 1), ("concurrency", 1), ("max_mb", 1), ("timeout", 0.001), ("rpm", 0)):
        if not least <= options[name] < math.inf:
            raise SpecError(f"{text}: option {name} expects a number from {least} on, found {options[name]!r}")


def check_base_url(text: str, url: str) -> str:
    """Return the URL in one form: host in lower case, no default port, no trailing slash. Raises SpecError, naming the
    spec `text`, if it is not an http(s) URL or contains a user, a password or a query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    unusable = "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable() or " " in url
    if parts.scheme not in _PORTS or not host or unusable:
        raise SpecError(f"{text}: base_url expects http(s)://HOST/PATH without user, password or query, found {url!r}")
    shown = f"[{host}]" if ":" in host else host
    shown += f":{port}" if port and port != _PORTS[parts.scheme] else ""
    return f"{parts.scheme}://{shown}{parts.path.rstrip('/')}"


def server_of(spec: Spec, options: Mapping[str, Any], url: str) -> dict[str, str]:
    """Return the part of a teacher's spec that identifies its server: its name if one is given, else its address."""
    name = str(options["as"])
    if not name.isprintable() or name != name.strip():
        raise SpecError(f"{spec.text}: option as expects a name of printable characters, found {name!r}")
    if "://" in name:
        return {"endpoint": check_base_url(spec.text, name)}
    return {"server": name} if name else {"endpoint": url}


def prices_of(spec: Spec, options: Mapping[str, Any], url: str, *, provider: str = "") -> Prices:
    """Return the prices: of the user's table `prices`, or the shipped one's of OpenAI or of another `provider`; the
    option `price` is that of a picture.

    Raises SpecError if one is no price, or the user's table has no entry for the model.
    """
    size, quality = options["size"], options["quality"]
    section = provider or ("openai" if url == OPENAI else "")
    prices = read_prices(spec.text, spec.model, size, quality, file=options["prices"], provider=section)
    if options["price"]:
        try:
            price = check_price(spec.text, options["price"])
            return replace(prices, picture=price, exact=True, of=None, source="the option price")
        except SpecError:
            expected = "option price expects dollars per picture, 0 or more"
            raise SpecError(f"{spec.text}: {expected}, found {options['price']!r}") from None
    return prices
