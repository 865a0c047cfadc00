"""A folder as a reader has it, and a local S3 server with the bucket that the pages name."""

from __future__ import annotations

import contextlib

import pytest

from tests.docs import stand_ins
from tests.teacher_cache.sharing.conftest import bucket, s3_server

__all__ = ["bucket", "s3_server"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder with small parts under the names of the real teacher and encoders."""
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)
    stand_ins.install(monkeypatch)


@pytest.fixture
def team(bucket):
    """Make the bucket `team` of the pages, empty."""
    with contextlib.suppress(bucket.client.exceptions.BucketAlreadyOwnedByYou):
        bucket.client.create_bucket(Bucket="team")
    for entry in bucket.client.list_objects_v2(Bucket="team").get("Contents", []):
        bucket.client.delete_object(Bucket="team", Key=entry["Key"])
