"""A cache with everything that a gallery can show, and a gallery's server started as a user starts it."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from teacher_cache import BuildOptions, Cache, build
from tests.fakes import encoder, teacher
from tests.pipelines.cli import command, environment

SCRIPT = "<script>document.title = 'taken'; fetch('https://example.org/')</script> \" onerror='alert(1)"
ODD = [
    SCRIPT,
    "</script><img src=x onerror=alert(1)>",
    "Straße im Frühling",
    "猫の絵 ネコ",
    "{{ 7 * 7 }} %s 100 % sure",
]
FAILING = ["[refused] a crowd", "[refused] a riot", f"[undecodable] {SCRIPT}", "[blank] nothing at all"]
PLAIN = [f"a quiet picture of thing number {i}" for i in range(91)]
PROMPTS = [*PLAIN, *ODD, *FAILING]  # 100: three pages


def fill(cache: Cache, prompts: list[str] = PROMPTS, samples: int = 1, **options: Any) -> None:
    """Draw and encode in shards of 16 rows."""
    build(cache, prompts, teacher(**options), encoder(), BuildOptions(shard_rows=16, seal_rows=16, samples=samples))


@contextlib.contextmanager
def served(cache: Cache, home: Path) -> Iterator[str]:
    """Run `armada cache browse` on a free port and yield its address."""
    words = command("cache", "browse", cache.store, "--port", 0, "--no-open")
    process = subprocess.Popen(
        words, env=environment(XDG_CACHE_HOME=home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate(timeout=20)[1]
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def request(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one request; its path is sent unchanged."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
