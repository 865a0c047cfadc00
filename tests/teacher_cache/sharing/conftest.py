"""A local S3 server for all tests of sharing, and a bucket for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import pytest

from tests.teacher_cache.sharing.s3_server import KEYS, S3Server


@dataclass
class Bucket:
    """A bucket of the local server, as another program sees it: `url` is that of a cache in it."""

    server: S3Server
    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}/cache"

    def paths(self, part: str = "") -> list[str]:
        """Return the paths of the cache's files that contain a text, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        found = [entry["Key"].removeprefix("cache/") for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in found if part in key)

    def read(self, path: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=f"cache/{path}")["Body"].read()
        return data

    def write(self, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"cache/{path}", Body=data)

    def remove(self, path: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"cache/{path}")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket; the environment points to its server, as a user's would."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3_server.url, "AWS_CONFIG_FILE": "/nonexistent"}.items():
        monkeypatch.setenv(name, value)
    name = f"armada-{tmp_path.name.replace('_', '-').lower()[:40].strip('-')}-{len(s3_server.requests)}"
    found = Bucket(s3_server, name, s3_server.client())
    found.client.create_bucket(Bucket=name)
    s3_server.requests.clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield found
    s3_server.refuse = lambda request: None
    fsspec.get_filesystem_class("s3").clear_instance_cache()
