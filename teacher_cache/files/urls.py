"""URLs of caches: without their secrets for messages, and in one way of writing for names."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

_SERVER = ("host", "port", "endpoint_url", "account_name")  # storage options that name where a path is


def redact(url: str) -> str:
    """Return a URL without its user, password and query, which may be secret."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def identity(file_system: Any, root: str) -> str:
    """Return the one URL of a folder of an fsspec file system, however it was written.

    It has no final slash and no second name of the protocol (`s3a`), and neither user nor password.
    """
    options = file_system.storage_options
    server = "".join(f"{name}={options[name]};" for name in _SERVER if options.get(name))
    return server + str(file_system.unstrip_protocol(root.rstrip("/")))
