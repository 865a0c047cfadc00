"""URLs of caches: without their secrets for messages and records, and in one way of writing for names."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from teacher_cache.errors import CacheError

_SERVER = ("host", "port", "endpoint_url", "account_name")  # storage options that name where a path is
_S3 = ("s3", "s3a")
_WITHOUT_USER = {  # protocols whose URLs have no place for credentials, and where their libraries look for them
    "s3": "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) or ~/.aws",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or gcloud",
    "hf": "HF_TOKEN, or sign in by: hf auth login",
}
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]*@")


def redact(url: str) -> str:
    """Return a URL without its user, password and query, which may be secret."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def without_secrets(text: str) -> str:
    """Return a text in which each URL has lost its user, password and query, and each token of the Hub is `hf_...`."""
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_...", _ADDRESS.sub(lambda found: redact(found[0]), text))


def check_url(url: str) -> None:
    """Raise CacheError if a URL has credentials that its library would not read, and that a record could keep."""
    protocol, _, rest = url.partition("://")
    protocol = {"s3a": "s3", "gcs": "gs"}.get(protocol.lower(), protocol.lower())
    if rest and protocol in _WITHOUT_USER and "@" in rest.partition("/")[0]:
        raise CacheError(
            f"{redact(url)}: expected no user and no password in the URL; the credentials come from "
            f"{_WITHOUT_USER[protocol]}"
        )


def identity(file_system: Any, root: str) -> str:
    """Return the one URL of a folder of an fsspec file system, however it was written.

    It has no final slash and no second name of the protocol (`s3a`), and neither user nor password.
    """
    options = {name: file_system.storage_options.get(name) for name in _SERVER}
    if not options["endpoint_url"] and set(_S3) & set(protocols(file_system)):
        options["endpoint_url"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    server = "".join(f"{name}={_PASSWORD.sub('//', str(value))};" for name, value in options.items() if value)
    return server + _PASSWORD.sub("//", str(file_system.unstrip_protocol(root.rstrip("/"))))


def protocols(file_system: Any) -> tuple[str, ...]:
    """Return the names of the protocol of an fsspec file system."""
    names = file_system.protocol
    return (names,) if isinstance(names, str) else tuple(names)
