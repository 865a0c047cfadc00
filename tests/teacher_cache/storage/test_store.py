"""A file appears whole or not at all, stays inside the cache, and a URL's secrets stay out of messages."""

import uuid

import pytest

from teacher_cache import Cache, CacheError
from teacher_cache.storage.store import Store, redact


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


def test_absent_file_is_named(store):
    with pytest.raises(CacheError, match=r"images/x\.tar: no such file"):
        store.read("images/x.tar")


def test_secrets_of_a_url_are_in_no_message():
    assert redact("s3://KEY:SECRET@host/bucket?token=T") == "s3://host/bucket"
    assert redact("/plain/path") == "/plain/path"


def test_unknown_protocol_is_an_error_in_words():
    with pytest.raises(CacheError, match="no usable folder or URL"):
        Cache("nonsense://x")
