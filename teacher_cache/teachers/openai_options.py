"""The options of the openai teacher: the server's address, the fields of a request's body, the price per picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec

OPENAI = "https://api.openai.com/v1"
BODY = {  # sent unchanged if given; they change the picture, and so are part of its key
    "size": "",
    "quality": "",
    "style": "",
    "background": "",
    "moderation": "",
    "output_format": "",
    "output_compression": 0,
    "response_format": "",
}
OPTIONS = {
    **BODY,
    "base_url": OPENAI,
    "revision": "",  # the user's own name for the server's model version: part of the key
    "seed": False,  # whether to send each picture's own seed; not every server accepts one
    "n": 1,  # pictures of one prompt per call, with --samples
    "concurrency": 8,
    "rpm": 0.0,  # requests per minute; 0 is no limit
    "timeout": 300.0,  # seconds per call, until its last byte
    "max_mb": 50,  # the largest body of a reply
    "key_env": "",  # the environment variable that contains the API key; OPENAI_API_KEY for OpenAI's own server
    "price": "",  # dollars per picture
    "prices": "",  # or a YAML file: {model: {"1024x1024 high": 0.167, default: 0.04}}
    "licence": "",
}


def check_base_url(text: str, url: str) -> str:
    """Return the URL without a trailing slash. Raises SpecError, naming the spec `text`, if it is not an http(s) URL or
    contains a user, a password or a query."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise SpecError(f"{text}: base_url expects http(s)://HOST/PATH without user, password or query, found {url!r}")
    return url.rstrip("/")


def price_usd(spec: Spec, options: Mapping[str, Any]) -> float | None:
    """Return the dollars per picture: the option `price`, or the most specific entry of the table `prices`.

    None if neither is given. Raises SpecError if the price is no number or the table has no entry for the model.
    """
    if options["price"]:
        try:
            return float(options["price"])
        except ValueError:
            raise SpecError(
                f"{spec.text}: option price expects dollars per picture, found {options['price']!r}"
            ) from None
    if not options["prices"]:
        return None
    import yaml

    try:
        table = yaml.safe_load(Path(options["prices"]).read_text("utf-8"))[spec.model]
        size, quality = options["size"], options["quality"]
        names = (f"{size} {quality}", size, quality, "default")
        return float(next(table[name] for name in names if name in table))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, StopIteration):
        expected = f"expected {{{spec.model}: {{'SIZE QUALITY' or default: dollars per picture}}}}"
        raise SpecError(f"{spec.text}: {options['prices']}: {expected}") from None
