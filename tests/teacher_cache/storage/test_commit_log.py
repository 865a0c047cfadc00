"""Commits are read once, from a checkpoint where there is one, and what is no commit is named and ignored."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from teacher_cache import Cache, Provenance, Spent, sha256
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Shard, commit_bytes, parse_commit

WHO = Provenance(time.time).now()


@pytest.fixture
def opened(cache, monkeypatch):
    """Open the cache again; return it and the number of its requests by kind."""

    def open_again():
        requests = Counter()
        for name in ("open", "read", "sizes", "names", "exists", "read_range"):
            original = getattr(Store, name)

            def count(*words, name=name, original=original):
                requests[name] += 1
                return original(*words)

            monkeypatch.setattr(Store, name, count)
        again = Cache(cache.store.url)
        again.shards()
        monkeypatch.undo()
        return again, requests

    return open_again


def add_commits(cache, count, first=0):
    for number in range(first, first + count):
        cache.commit([], spent=[Spent("ledger", "0" * 64, number, 0.0)], **WHO)


def test_a_checkpoint_is_read_instead_of_its_commits_and_the_later_ones_one_by_one(cache, opened):
    add_commits(cache, 20)
    cache.commits()
    cache.log.write_checkpoint()
    add_commits(cache, 3, 20)
    again, requests = opened()
    assert len(again.commits()) == 23
    assert requests == {"read": 1 + 1 + 3, "sizes": 2}  # cache.json, the checkpoint and three commits; two folders


def test_a_new_checkpoint_replaces_the_one_that_it_contains(cache):
    for first in (0, 5):
        add_commits(cache, 5, first)
        again = Cache(cache.store.url)
        again.commits()
        again.log.write_checkpoint()
    (path,) = Path(str(cache.store)).glob("checkpoints/*.json")
    assert len(json.loads(path.read_text())["commits"]) == 10
    assert sha256(path.read_bytes()) == path.stem


def test_with_many_commits_a_checkpoint_is_written_only_after_64_more(cache):
    add_commits(cache, 300)
    cache.commits()
    cache.log.write_checkpoint()
    for added, expected in ((64, 300), (1, 365)):
        add_commits(cache, added, 1000 + added)
        cache.commits()
        cache.log.write_checkpoint()
        (path,) = Path(str(cache.store)).glob("checkpoints/*.json")
        assert len(json.loads(path.read_text())["commits"]) == expected


@pytest.mark.parametrize("how", ["delete", "truncate", "foreign commit"])
def test_a_checkpoint_needs_no_trust(cache, how):
    add_commits(cache, 5)
    commits = cache.commits()
    cache.log.write_checkpoint()
    (path,) = Path(str(cache.store)).glob("checkpoints/*.json")
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        facts = json.loads(path.read_text())
        name = next(iter(facts["commits"]))
        facts["commits"][name] = facts["commits"][name].replace('"calls":', '"calls":9')
        data = json.dumps(facts).encode()
        path.unlink()
        (path.parent / f"{sha256(data)}.json").write_bytes(data)
    assert Cache(cache.store.url).commits() == commits


def test_a_commit_that_another_process_adds_is_seen_after_a_refresh(cache):
    other = Cache(cache.store.url)
    assert other.spent("0" * 64) == (0, 0.0)
    cache.commit([], spent=[Spent("ledger", "0" * 64, 7, 0.5)], **WHO)
    other.refresh()
    assert other.spent("0" * 64) == (7, 0.5)
    assert other.spent("0" * 64, without="ledger") == (0, 0.0)


def test_the_number_of_requests_does_not_grow_with_the_shards(cache, opened):
    counts = []
    for first, count in ((0, 3), (3, 30)):
        for number in range(first, first + count):
            digest = sha256(str(number).encode())
            shard = Shard(f"features/t/e/shards/{digest[:32]}.parquet", 1, 1, digest)
            cache.store.write(shard.path, b"x")
            cache.commit([shard], **WHO)
        cache.commits()
        cache.log.write_checkpoint()
        counts.append(opened()[1])
    assert counts[0] == counts[1]


def test_a_commit_is_read_back_as_it_was_written():
    digest = sha256(b"x")
    shard = Shard(f"failures/t/{digest[:32]}.parquet", 1, 2, digest)
    data = commit_bytes([shard], spent=[Spent("l", digest, 3, 0.25)], **WHO)
    read = parse_commit(sha256(data), data)
    assert (read.added, read.spent, read.replaced, read.lost) == ((shard,), (Spent("l", digest, 3, 0.25),), (), ())
    assert commit_bytes(read.added, spent=read.spent, **WHO) == data
