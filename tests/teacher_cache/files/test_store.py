"""A file appears complete or not at all, no path leaves the cache, and messages never have the secrets of a URL."""

import uuid

import pytest

from teacher_cache import Cache, CacheError
from teacher_cache.files.store import Store, redact


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path / "root") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_written_bytes_are_read_back_and_listed(store):
    store.write("commits/b.json", b"2")
    store.write("commits/a.json", b"1")
    assert store.names("commits") == ["a.json", "b.json"]
    assert store.read("commits/a.json") == b"1"
    assert store.names("nothing") == []


def write_half(store):
    with store.draft() as draft:
        draft.write_bytes(b"half")
        raise RuntimeError("killed")


def test_a_draft_that_is_not_published_leaves_nothing(tmp_path):
    store = Store(str(tmp_path / "root"))
    with pytest.raises(RuntimeError, match="killed"):
        write_half(store)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\..\\b", ""])
def test_no_path_leaves_the_cache(store, name):
    with pytest.raises(CacheError, match="leaves the cache; refused"):
        store.read(name)


def test_a_missing_file_is_named(store):
    with pytest.raises(CacheError, match=r"images/x\.tar: no such file"):
        store.read("images/x.tar")


def test_messages_show_a_url_without_its_secrets():
    assert redact("s3://KEY:SECRET@host/bucket?token=T") == "s3://host/bucket"
    assert redact("/plain/path") == "/plain/path"


def test_an_unknown_protocol_is_an_error_that_names_the_problem():
    with pytest.raises(CacheError, match="no usable folder or URL"):
        Cache("nonsense://x")
