"""The small files of a cache that somebody else has written are read, or refused by ArmadaError."""

import json

import pytest

from teacher_cache import Cache, build
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Entry, Shard, Spent, commit_bytes, parse_commit
from teacher_cache.keys import canonical_json, sha256
from teacher_cache.storage.cache_json import check_format, read_source
from teacher_cache.storage.commit_log import CommitLog
from teacher_cache.storage.part import read_part
from tests import fakes
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, other_json

JSON = (damaged_bytes, other_json, other_json, other_json)
DIGEST = "ab" * 32
TAR, INDEX = (
    f"images/fake-0123456789abcdef/{place}" for place in (f"shards/{DIGEST[:32]}.tar", f"indexes/{DIGEST[:32]}.parquet")
)
COMMIT = commit_bytes(
    [
        Shard(TAR, 10_240, 3, DIGEST, Shard(INDEX, 900, 3, DIGEST)),
        Shard(f"features/a/b/shards/{DIGEST[:32]}.parquet", 5, 3, DIGEST),
    ],
    replaced=[Entry(DIGEST, TAR)],
    lost=[Entry(DIGEST, TAR)],
    spent=[Spent("ledger", DIGEST, 3, 0.25)],
    by="me@here",
    at="2026-01-01T00:00:00+00:00",
    prompts="prompts.txt",
)


def canonical(random_numbers, data):
    """Change a commit as JSON, and write it canonically as far as that can be done."""
    changed = other_json(random_numbers, data)
    try:
        return canonical_json(json.loads(changed))
    except (ValueError, RecursionError):
        return changed


def test_a_commit_is_read_or_refused(tmp_path):
    damage = (damaged_bytes, other_json, canonical, canonical, canonical)
    fuzz("commit", [COMMIT], damage, lambda data: parse_commit(sha256(data), data), tmp_path, count=1000)


@pytest.fixture
def store(tmp_path):
    """A store that has a cache of one picture."""
    build(Cache(str(tmp_path / "cache"), create=True), ["a prompt"], fakes.teacher(), fakes.encoder())
    return Store(str(tmp_path / "cache"))


def test_the_log_of_commits_is_read_whatever_stands_in_it(store, tmp_path):
    def read(data):
        path = tmp_path / "cache" / "commits" / f"{sha256(data)}.json"
        path.write_bytes(data)
        CommitLog(store).refresh()
        Cache(str(tmp_path / "cache")).shards()
        path.unlink()

    fuzz("commit log", [COMMIT], (damaged_bytes, other_json, canonical, canonical), read, tmp_path, count=100)


def test_a_checkpoint_is_read_or_left_out(store, tmp_path):
    folder = tmp_path / "cache" / "checkpoints"
    (checkpoint,) = folder.iterdir()

    def read(data):
        path = folder / f"{sha256(data)}.json"
        path.write_bytes(data)
        CommitLog(store).refresh()
        path.unlink()

    fuzz("checkpoint", [checkpoint.read_bytes()], JSON, read, tmp_path, count=100)


@pytest.mark.parametrize("name", ["cache.json", "part.json", "teacher.json", "encoder.json"])
def test_a_record_of_a_cache_is_read_or_refused(store, tmp_path, name):
    folder = tmp_path / "cache"
    (folder / "part.json").write_bytes(canonical_json({"of": "s3://a/b", "chosen": "a task", "left_out": [TAR]}))
    path = next(folder.rglob(name))

    def read(data):
        path.write_bytes(data)
        check_format(store)
        read_part(store)
        if name in ("teacher.json", "encoder.json"):
            read_source(store, str(path.relative_to(folder)))

    def true_digest(random_numbers, data):
        """Change the facts of a record, and give its spec the right digest if it can have one."""
        facts = json.loads(data)
        if isinstance(facts.get("spec"), dict):
            spec = other_json(random_numbers, canonical_json(facts["spec"]))
            try:
                return canonical_json(
                    {**facts, "spec": json.loads(spec), "digest": sha256(canonical_json(json.loads(spec)))}
                )
            except (ValueError, RecursionError):
                return data.replace(canonical_json(facts["spec"]), spec)
        return other_json(random_numbers, data)

    fuzz(name, [path.read_bytes()], (*JSON, true_digest), read, tmp_path, count=100)
