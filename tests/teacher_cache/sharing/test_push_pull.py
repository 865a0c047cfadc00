"""Push, pull and sync over S3, memory and folders: only what is missing is sent, commits last, copies are whole."""

import re
import shutil

import pytest

from teacher_cache import (
    Cache,
    CacheError,
    NoCacheError,
    build,
    compact,
    pull,
    push,
    sync,
    verify,
)
from teacher_cache.files import object_stores
from tests import fakes
from tests.teacher_cache.maintenance.caches import rows_of
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built, costs_nothing


@pytest.fixture(params=["s3", "memory", "folder"])
def remote(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("bucket").url
    return f"memory://push-{tmp_path.name}" if request.param == "memory" else str(tmp_path / "remote")


def test_a_pushed_cache_is_pulled_whole_and_neither_is_sent_twice(tmp_path, remote):
    source = built(tmp_path / "a")
    counted = push(str(source), remote, dry_run=True)
    with pytest.raises(NoCacheError):
        Cache(remote)  # nothing was written
    done = push(str(source), remote)
    assert (done.files_sent, done.bytes_sent) == (counted.files_sent, counted.bytes_sent)
    assert done.is_whole
    again = push(str(source), remote)
    assert (again.files_sent, again.bytes_sent, again.files_there) == (0, 0, done.files_sent)
    pulled = pull(remote, str(tmp_path / "b"))
    assert (pulled.files_sent, pulled.bytes_sent) == (done.files_sent, done.bytes_sent)
    assert pull(remote, str(tmp_path / "b")).files_sent == 0
    assert rows_of(Cache(str(tmp_path / "b"))) == rows_of(Cache(str(source))) == rows_of(Cache(remote))
    assert verify(str(tmp_path / "b")).problems == verify(remote).problems == []
    assert costs_nothing(tmp_path / "b")
    assert costs_nothing(remote)
    assert not (tmp_path / "b" / "part.json").exists()


def test_a_second_push_to_s3_puts_nothing_at_all(tmp_path, bucket):
    push(str(built(tmp_path / "a")), bucket.url)
    bucket.server.requests.clear()
    assert push(str(tmp_path / "a"), bucket.url).files_sent == 0
    assert {request.split()[0] for request in bucket.server.requests} <= {"GET", "HEAD"}


def test_push_to_s3_puts_shards_first_and_commits_last(tmp_path, bucket):
    push(str(built(tmp_path / "a")), bucket.url)
    puts = [re.sub("^cache/", "", key) for key in bucket.server.puts(bucket.name)]
    commits = [place for place, key in enumerate(puts) if key.startswith("commits/")]
    data = [place for place, key in enumerate(puts) if key.endswith((".tar", ".parquet", "er.json", "cache.json"))]
    assert len(commits) == len(Cache(str(tmp_path / "a")).commits())
    assert max(data) < min(commits)
    assert len(puts) == len(set(puts))


def test_sync_gives_both_sides_the_union(tmp_path, remote):
    one, two = built(tmp_path / "a"), built(tmp_path / "b", [f"other {number}" for number in range(5)])
    expected = {**rows_of(Cache(str(one))), **rows_of(Cache(str(two)))}
    push(str(two), remote)
    counted = sync(str(one), remote, dry_run=True)
    done = sync(str(one), remote)
    assert (done.files_sent, done.bytes_sent) == (counted.files_sent, counted.bytes_sent)
    assert rows_of(Cache(str(one))) == rows_of(Cache(remote)) == expected
    assert sync(str(one), remote).files_sent == 0
    assert sync(remote, str(tmp_path / "new")).is_whole
    assert rows_of(Cache(str(tmp_path / "new"))) == expected


def test_what_a_compaction_replaced_is_not_sent(tmp_path, bucket):
    source = built(tmp_path / "a")
    expected = rows_of(Cache(str(source)))
    compact(Cache(str(source)))
    push(str(source), bucket.url)
    assert len(bucket.paths(".tar")) == 1
    assert rows_of(Cache(bucket.url)) == expected
    assert costs_nothing(bucket.url)


def test_push_sends_a_truncated_object_again_and_pull_a_truncated_file(tmp_path, bucket):
    source = built(tmp_path / "a")
    push(str(source), bucket.url)
    tar = bucket.paths(".tar")[0]
    bucket.write(tar, bucket.read(tar)[:-100])
    assert push(str(source), bucket.url).files_sent == 1
    assert verify(bucket.url).problems == []
    pull(bucket.url, str(tmp_path / "b"))
    (tmp_path / "b" / tar).write_bytes(b"half")
    assert pull(bucket.url, str(tmp_path / "b")).files_sent == 1
    assert verify(str(tmp_path / "b")).problems == []


def test_push_holds_back_a_commit_whose_shard_is_damaged_or_missing_here(tmp_path, bucket):
    source = built(tmp_path / "a")
    tars = sorted(source.glob("images/*/shards/*.tar"))
    data = bytearray(tars[0].read_bytes())
    data[700] ^= 1
    tars[0].write_bytes(bytes(data))
    tars[1].unlink()
    done = push(str(source), bucket.url)
    assert done.commits_held_back == 2
    assert "sha256 differs" in next(iter(done.refused.values()))
    assert done.missing == [str(tars[1].relative_to(source))]
    assert verify(bucket.url).problems[:1] == [] or {p.kind for p in verify(bucket.url).problems} == {"orphan"}
    assert not Cache(bucket.url).state.missing
    teacher = fakes.teacher()
    build(Cache(bucket.url), PROMPTS, teacher, fakes.encoder(), SMALL)  # what is there is used, the rest is drawn
    assert 0 < len(teacher.calls) <= 8


def test_a_large_file_goes_to_s3_in_parts_and_arrives(tmp_path, bucket, monkeypatch):
    source = built(tmp_path / "a")
    monkeypatch.setattr(object_stores, "PART_BYTES", 5 << 20)
    cache = Cache(str(source))
    (teacher,) = cache.teachers()
    with cache.store.draft() as draft:
        draft.write_bytes(bytes(range(256)) * (11 << 12))
        shard = cache.add(draft, f"failures/{teacher.name}", ".parquet", 1)
    cache.commit([shard], by="x@y", at="2026-01-01T00:00:00+00:00")
    assert push(str(source), bucket.url).is_whole
    assert sum("uploadId" in request and request.startswith("PUT") for request in bucket.server.requests) == 3
    assert bucket.read(shard.path) == (source / shard.path).read_bytes()


def test_push_into_a_folder_without_a_cache_or_of_another_format_is_one_error(tmp_path, bucket):
    with pytest.raises(NoCacheError, match="no cache here"):
        push(str(tmp_path / "nothing"), bucket.url)
    with pytest.raises(NoCacheError, match="no cache here"):
        sync(str(tmp_path / "nothing"), bucket.url)
    bucket.write("cache.json", b'{"format":3,"made_by":"armada"}')
    with pytest.raises(CacheError, match="the cache has format 3"):
        push(str(built(tmp_path / "a")), bucket.url)
    assert bucket.paths() == ["cache.json"]


def test_pull_over_a_copy_made_by_cp_completes_it(tmp_path, bucket):
    source = built(tmp_path / "a")
    push(str(source), bucket.url)
    shutil.copytree(source, tmp_path / "b", ignore=shutil.ignore_patterns("*.tar", "local"))
    with pytest.raises(CacheError, match="lacks"):
        build(Cache(str(tmp_path / "b")), PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    assert pull(bucket.url, str(tmp_path / "b")).is_whole
    assert costs_nothing(tmp_path / "b")
