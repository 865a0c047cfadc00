"""The shape of the openai teacher's requests: address, body, headers and seed, by a spec's options and its server's
preset; and the part of them that is the pictures' key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers.openai_options import (
    BODY,
    KEY_BODY,
    OPTIONS,
    check_base_url,
    check_numbers,
    prices_of,
    server_of,
)
from teacher_cache.teachers.prices import Prices
from teacher_cache.teachers.providers.body_options import body_of, headers_of, query_of, split_options
from teacher_cache.teachers.providers.presets import OPENAI, Preset, preset_of

_PREFIXES = ("body", "query", "header_env")
_EXAMPLES = {"openai": "gpt-image-2.5-flare", "together": "black-forest-labs/FLUX.1-schnell", "azure": "DEPLOYMENT"}
_STREAM = "pictures are not received in parts"
_SHORTEST_KEY = 8  # characters; a shorter key is not looked for in a spec


@dataclass(frozen=True)
class RequestShape:
    """What every request has in common. `body` lacks prompt, n and seed; `header_env` maps headers to environment
    variables; `key_facts` is the teacher's spec, of all that changes a picture."""

    preset: Preset
    server: str  # its address, for messages
    address: str
    body: Mapping[str, Any]
    header_env: Mapping[str, str]
    key_env: str
    key_header: str
    seed: str
    prices: Prices
    key_facts: Mapping[str, Any]

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers of a request with an API key, or without one if it is ""."""
        secret = {name: os.environ.get(variable, "").strip() for name, variable in self.header_env.items()}
        if key:
            secret[self.key_header] = f"Bearer {key}" if self.key_header == "authorization" else key
        return secret


def request_shape(spec: Spec) -> tuple[dict[str, Any], RequestShape]:
    """Return a spec's options and the shape of its requests. Raises SpecError for what can't be sent."""
    preset = preset_of(spec.kind)
    if not spec.model:
        raise SpecError(f"{spec.text}: expected {spec.kind}:MODEL, for example {_example(spec.kind)}")
    plain, dotted = split_options(spec, _PREFIXES)
    options = plain.options(_options(preset))
    check_numbers(spec.text, options)
    _check_size(spec.text, options["size"], preset)
    values = {"model": quote(spec.model, safe=""), **{name: quote(options[name], safe="") for name in preset.settings}}
    base_url = options["base_url"]
    given = base_url != preset.base_url
    if not given:
        if lacking := [name for name in preset.settings if not options[name] and f"{{{name}}}" in base_url]:
            raise SpecError(f"{spec.text}: expected {spec.kind}:{spec.model}?{lacking[0]}=NAME, or base_url=ADDRESS")
        base_url = preset.filled(base_url, values)
    url = check_base_url(spec.text, base_url)
    server = preset.filled(preset.server, values) if all(values.values()) else ""
    if options["n"] > 1 and not preset.takes_n:
        raise SpecError(f"{spec.text}: option n: {spec.kind} draws one picture per call; leave it out")
    seed = options["seed"] if options["seed"] != "auto" or url != OPENAI else "false"
    named = {name: options[name] for name in BODY if options[name]}
    own = body_of(spec.text, dotted["body"], _reserved(preset))
    query = query_of(spec.text, dotted["query"], preset.query)
    fixed = {name: preset.filled(value, {**values, **_raw(options, preset)}) for name, value in preset.query.items()}
    parameters = {**fixed, **query}
    model = {preset.model: spec.model} if preset.model else {}
    shape = RequestShape(
        preset=preset,
        server=url,
        address=f"{url}/{_path(spec.text, options['path'], preset, values)}"
        + (f"?{urlencode(parameters)}" if parameters else ""),
        body={**model, **preset.body, **_sized(named, preset), **own},
        header_env=headers_of(spec.text, dotted["header_env"], options["key_header"].lower()),
        key_env=options["key_env"] or (preset.key_env if _is_own_server(url, given, preset) else ""),
        key_header=options["key_header"].lower(),
        seed=seed,
        prices=_prices(spec, options, url, preset, own),
        key_facts={
            "kind": "openai",
            **server_of(spec, {**options, "as": options["as"] or server}, url),
            "model": spec.model,
            **{name: value for name, value in named.items() if name in KEY_BODY},
            **({"body": own} if own else {}),
            **({"query": query} if query else {}),
            **({"path": options["path"]} if options["path"] else {}),
            **({"revision": options["revision"]} if options["revision"] else {}),
            **({"seed": "from the image key"} if options["seed"] == "true" else {}),
        },
    )
    _check_key_is_not_in(spec, shape)
    return options, shape


def _is_own_server(url: str, given: bool, preset: Preset) -> bool:
    """Return whether an address is the provider's own, to which its key goes without being told so by key_env."""
    parts = urlsplit(url)
    in_domain = parts.scheme == "https" and f".{parts.hostname}".endswith(f".{preset.key_domain}")
    return not given or url == preset.base_url or (bool(preset.key_domain) and in_domain)


def _options(preset: Preset) -> dict[str, Any]:
    """Return the options of a preset's teacher with their defaults."""
    seeds = (preset.seed, *(word for word in ("auto", "true", "false") if word != preset.seed))
    own: dict[str, Any] = {
        "base_url": preset.base_url,
        "seed": seeds,
        "key_header": preset.key_header,
        "path": "",
        **preset.settings,
    }
    if preset.poll:
        own["poll"] = 1.0  # seconds between two questions for a picture
    return {**OPTIONS, **own}


def _path(text: str, path: str, preset: Preset, values: Mapping[str, str]) -> str:
    """Return the path of the address: the preset's, or the user's own. Raises SpecError if that is none."""
    if not path:
        return preset.filled(preset.path, values)
    if not re.fullmatch(r"[A-Za-z0-9._~%-]+(/[A-Za-z0-9._~%-]+)*", path) or ".." in path.split("/"):
        raise SpecError(f"{text}: option path expects a path below base_url, as in images/generations, found {path!r}")
    return path


def _raw(options: Mapping[str, Any], preset: Preset) -> dict[str, str]:
    return {name: str(options[name]) for name in preset.settings}


def _example(kind: str) -> str:
    return f"{kind}:{_EXAMPLES.get(kind, 'MODEL')}"


def _reserved(preset: Preset) -> dict[str, str]:
    """Return the fields of a body that are no `body.` option, and what to write instead."""
    size = "write size=WIDTHxHEIGHT"
    sized = {name: size for name in preset.size.split()} if preset.size != "size" else {}
    named = {
        name: f"write {name}=VALUE without body." for name in BODY if not (name == "size" and preset.size != "size")
    }
    if not preset.size:  # a server without sizes, which prices by other fields
        named = {name: advice for name, advice in named.items() if name not in preset.priced_by or name == "quality"}
    return {
        **named,
        **sized,
        "prompt": "it is the text of each row",
        "n": "write n=NUMBER without body.",
        "seed": "each picture has a seed of its own; write seed=true or seed=false",
        **({preset.model: f"write {preset.name}:MODEL"} if preset.model else {}),
        "stream": _STREAM,
        "partial_images": _STREAM,
    }


def _check_size(text: str, size: str, preset: Preset) -> None:
    if size and not preset.size:
        fields = ", ".join(f"body.{name}=..." for name, _ in preset.priced_by.values())
        raise SpecError(f"{text}: {preset.name} takes no size; write body.aspect_ratio=1:1, {fields}")
    if size and preset.size != "size" and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size):
        raise SpecError(f"{text}: option size expects WIDTHxHEIGHT in pixels, for example 1024x768, found {size!r}")


def _sized(named: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """Return the named fields with the size in the form that the server takes."""
    fields = preset.size.split()
    if "size" not in named or fields == ["size"]:
        return dict(named)
    rest = {name: value for name, value in named.items() if name != "size"}
    return {**rest, **dict(zip(fields, map(int, named["size"].split("x")), strict=True))}


def _prices(spec: Spec, options: Mapping[str, Any], url: str, preset: Preset, own: Mapping[str, Any]) -> Prices:
    """Return the prices; a field of the body may stand for the size or the quality in the table."""
    priced = {
        name: str(own.get(field, options.get(field) or default)) for name, (field, default) in preset.priced_by.items()
    }
    provider = "openai" if url == OPENAI else preset.name if preset.name != "openai" else ""
    return prices_of(spec, {**options, **priced}, url, provider=provider)


def _check_key_is_not_in(spec: Spec, shape: RequestShape) -> None:
    """Raise SpecError, without repeating it, if the text of a spec has the value of the key's variable, or of another
    that it names."""
    for variable in (shape.key_env, *shape.header_env.values()):
        value = os.environ.get(variable, "").strip() if variable else ""
        if len(value) >= _SHORTEST_KEY and value in (spec.text + "&".join(spec.params.values())):
            raise SpecError(
                f"{spec.kind}:{spec.model}: an option has the value of the environment variable {variable}; a spec is "
                "stored with the pictures: leave the value out, and name the variable"
            )
