"""Stand-ins for image servers on the loopback interface, with the shapes of request and reply that their documentation
or source describes. A request of another shape is answered as the server would, or fails the test.

Each stand-in is a function of a request: it returns a status and a JSON value. Pictures depend on prompt and seed, as
far as the server takes seeds; otherwise each is another one.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes import png
from tests.teacher_cache.image_server import KEY
from tests.teacher_cache.loopback import LoopbackHandler, LoopbackServer, running

_numbers = itertools.count()


@dataclass(frozen=True)
class Asked:
    """A request: its path, its query, its headers in lower case and its JSON."""

    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: dict[str, Any]
    origin: str


@dataclass
class Stand:
    """A stand-in while it runs; `asked` has its requests in their order of arrival, `paths` counts those by GET."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)


Shape = Callable[[Asked], tuple[int, dict[str, Any]]]


def picture(prompt: str, seed: object) -> bytes:
    """Return the picture of a prompt and a seed."""
    return png(int(hashlib.sha256(f"{prompt}/{seed}".encode()).hexdigest()[:8], 16))


def b64(prompt: str, seed: object) -> str:
    return base64.b64encode(picture(prompt, seed)).decode()


def _error(status: int, message: str, code: str = "") -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "invalid_request_error", "code": code}}


def _bearer(asked: Asked) -> bool:
    return asked.headers.get("authorization") == f"Bearer {KEY}"


def vllm_omni(asked: Asked) -> tuple[int, dict[str, Any]]:
    """A random seed unless one is sent, and base64 only."""
    assert asked.path == "/v1/images/generations"
    body = asked.body
    if body.get("response_format", "b64_json") != "b64_json" or "x" not in body.get("size", "1x1"):
        return 422, {"detail": [{"loc": ["body", "response_format"], "msg": "only b64_json", "type": "value_error"}]}
    seed = body.get("seed", f"random {next(_numbers)}")
    entries = [{"b64_json": b64(body["prompt"], seed), "url": None, "revised_prompt": None}]
    return 200, {"created": 1, "data": entries}


def sglang(asked: Asked) -> tuple[int, dict[str, Any]]:
    """Seed 1024 unless one is sent; URLs, the default, need a storage that isn't there."""
    assert asked.path == "/v1/images/generations"
    body = asked.body
    if body.get("response_format", "url") != "b64_json":
        return 400, {"detail": "response_format='url' requires cloud storage to be configured."}
    entry = {"b64_json": b64(body["prompt"], body.get("seed", 1024)), "url": None, "file_path": "/tmp/a.png"}
    return 200, {"id": "a", "created": 1, "data": [entry], "peak_memory_mb": 1.0, "inference_time_s": 0.1}


def localai(asked: Asked) -> tuple[int, dict[str, Any]]:
    """A URL unless base64 is asked for; a usage of zeros."""
    assert asked.path == "/v1/images/generations"
    body = asked.body
    prompt, seed = body["prompt"].split("|")[0], body.get("seed", f"random {next(_numbers)}")
    entry: dict[str, Any] = {"embedding": None, "index": 0}
    if body.get("response_format") == "b64_json":
        entry["b64_json"] = b64(prompt, seed)
    else:
        entry["url"] = f"{asked.origin}/generated-images/{prompt}/{seed}"
    return 200, {"created": 1, "id": "a", "data": [entry], "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def together(asked: Asked) -> tuple[int, dict[str, Any]]:
    """Width and height as numbers; base64 is called base64; a seed is taken."""
    assert asked.path == "/v1/images/generations"
    body = asked.body
    if not _bearer(asked):
        return _error(401, "Invalid API key provided", "invalid_api_key")
    numbers = [body.get(name, 1) for name in ("width", "height", "steps", "seed")]
    if "size" in body or any(type(number) is not int for number in numbers):
        return _error(400, "size is no field; numbers are integers", "invalid_parameter")
    if body.get("response_format", "url") not in ("url", "base64"):
        return _error(422, "response_format is base64 or url", "invalid_parameter")
    seed = body.get("seed", f"random {next(_numbers)}")
    entry = {"index": 0, "timings": {"inference": 0.1}}
    if body.get("response_format") == "base64":
        return 200, {
            "id": "a",
            "model": body["model"],
            "object": "list",
            "data": [{**entry, "b64_json": b64(body["prompt"], seed)}],
        }
    entry["url"] = f"{asked.origin}/shrt/{next(_numbers)}"
    return 200, {"id": "a", "model": body["model"], "object": "list", "data": [entry]}


def xai(asked: Asked) -> tuple[int, dict[str, Any]]:
    """Neither size nor seed nor style; the exact cost is in the usage."""
    assert asked.path == "/v1/images/generations"
    body = asked.body
    if not _bearer(asked):
        return _error(400, "Incorrect API key provided", "invalid_api_key")
    if unknown := sorted({"size", "seed", "style"} & set(body)):
        return _error(400, f"Argument not supported: {unknown[0]}", "unsupported_parameter")
    ticks = {("1k", "low"): 4, ("1k", "medium"): 6, ("2k", "low"): 6, ("2k", "medium"): 8}
    cost = ticks[body.get("resolution", "1k"), body.get("quality", "medium")] * 10**8
    entry = {"b64_json": b64(body["prompt"], next(_numbers)), "mime_type": "image/png"}
    return 200, {"data": [entry], "model": body["model"], "usage": {"cost_in_usd_ticks": cost}}


def azure(asked: Asked) -> tuple[int, dict[str, Any]]:
    """The deployment is in the path, the API's version in the query, the key in the header api-key."""
    if asked.headers.get("api-key") != KEY or "authorization" in asked.headers:
        return 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key"}}
    if asked.query.get("api-version") != ["2025-04-01-preview"]:
        return 404, {"error": {"code": "404", "message": "Resource not found"}}
    if asked.path != "/openai/deployments/my-image/images/generations":
        return 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}
    if {"seed", "response_format"} & set(asked.body):
        return _error(400, "Unknown parameter", "unknown_parameter")
    usage = {"input_tokens": 20, "output_tokens": 196, "input_tokens_details": {"text_tokens": 20, "image_tokens": 0}}
    return 200, {"created": 1, "data": [{"b64_json": b64(asked.body["prompt"], next(_numbers))}], "usage": usage}


def bfl(asked: Asked) -> tuple[int, dict[str, Any]]:
    """A task, which is asked for at its own address with the key, and is ready at the third question; the picture is
    fetched without the key."""
    if asked.headers.get("x-key") != KEY or "authorization" in asked.headers:
        return 403, {"detail": "Not authenticated - Invalid Authentication"}
    if asked.path != "/v1/flux-2-pro":
        return 404, {"detail": "Not Found"}
    body = asked.body
    if {"model", "size", "n"} & set(body) or type(body.get("width", 1)) is not int:
        return 422, {"detail": [{"loc": ["body", "size"], "msg": "extra fields not permitted", "type": "value_error"}]}
    place = f"{body['prompt']}/{body.get('seed', next(_numbers))}".encode().hex()
    if body["prompt"] in ("moderated", "lost", "never"):
        place = body["prompt"]
    url = f"{asked.origin}/v1/get_result?id={place}"
    return 200, {"id": place, "polling_url": url, "cost": 3.0, "input_mp": 0.0, "output_mp": 1.0}


SHAPES: dict[str, Shape] = {
    "vllm-omni": vllm_omni,
    "sglang": sglang,
    "localai": localai,
    "together": together,
    "xai": xai,
    "azure": azure,
    "bfl": bfl,
}


@contextmanager
def standing(shape: Shape) -> Iterator[Stand]:
    """Yield a stand-in while it runs."""
    with running(LoopbackServer(_Handler)) as server:
        server.stand, server.shape = Stand(server.origin), shape  # type: ignore[attr-defined]
        yield server.stand  # type: ignore[attr-defined]


class _Handler(LoopbackHandler):
    server: Any

    def _asked(self) -> Asked:
        parts = urlsplit(self.path)
        body = self.read_body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(parts.path, parse_qs(parts.query), headers, json.loads(body or b"{}"), self.server.stand.url)

    def do_POST(self) -> None:
        asked = self._asked()
        with self.server.lock:
            self.server.stand.asked.append(asked)
        status, value = self.server.shape(asked)
        self.send(status, value)

    def do_GET(self) -> None:
        asked = self._asked()
        with self.server.lock:
            self.server.stand.paths[self.path] += 1
            number = self.server.stand.paths[self.path]
        if asked.path == "/v1/get_result":
            self._task(asked, number)
        elif KEY in str(dict(asked.headers)):
            self.send(400, b"a picture's address never sees the key", {"Content-Type": "text/plain"})
        else:
            self.send(200, picture(self.path, ""), {"Content-Type": "image/png"})

    def _task(self, asked: Asked, number: int) -> None:
        place = asked.query["id"][0]
        states = {"moderated": "Request Moderated", "lost": "Task not found", "never": "Pending"}
        if asked.headers.get("x-key") != KEY:
            self.send(403, {})
        elif number == 2 and place not in states:
            self.send(503, b"busy", {"Content-Type": "text/plain"})
        else:
            status = states.get(place, "Pending" if number < 3 else "Ready")
            sample = {"sample": f"{asked.origin}/pictures/{place}", "seed": 1} if status == "Ready" else None
            self.send(200, {"id": place, "status": status, "result": sample})
