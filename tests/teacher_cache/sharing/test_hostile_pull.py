"""Hostile caches in a bucket: a pull takes nothing that it should not, names what it leaves, and touches nothing else.

The attacks are those of tests/faults/test_hostile_cache.py, in an S3 bucket, a folder, and through a pull into an empty
and into a sound cache.
"""

import json
import os
import socket
import sys

import pyarrow as pa
import pytest

from teacher_cache import ArmadaError, Cache, build, merge, open_features, pull, push, status, sync, verify
from teacher_cache.format.commits import Shard, commit_bytes
from teacher_cache.keys import canonical_json, sha256, spec_digest
from tests import fakes
from tests.faults.attempts import Attempts, named
from tests.faults.test_hostile_cache import PROMPTS, WHO, add_parquet, commit, source_file
from tests.teacher_cache.maintenance.caches import rows_of

pytestmark = pytest.mark.faults


@pytest.fixture
def evil(tmp_path):
    """A sound cache of six pictures that an attack changes before it is shared."""
    folder = tmp_path / "evil"
    build(Cache(str(folder), create=True), PROMPTS, fakes.teacher(), fakes.encoder())
    return folder


def put_into(bucket, folder):
    """Put the files of a cache into a bucket as they are, not by a push; return its URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "local" not in path.parts:
            bucket.write(str(path.relative_to(folder)), path.read_bytes())
    return bucket.url


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.slow), "folder"])
def shared(request, evil):
    """Return a function that shares the evil cache as it is, and returns its URL."""
    if request.param == "folder":
        return lambda: str(evil)
    bucket = request.getfixturevalue("bucket")
    return lambda: put_into(bucket, evil)


def use(url, tmp_path):
    """Pull a hostile cache into nothing and into a sound cache, and read it in its place; return the messages."""
    attempt = Attempts()
    messages = attempt.messages
    mine = tmp_path / "mine"
    build(Cache(str(mine), create=True), [*PROMPTS[:3], "my own"], fakes.teacher(), fakes.encoder())
    before = rows_of(Cache(str(mine)))
    for copy in (lambda: pull(url, str(tmp_path / "new")), lambda: pull(url, str(mine)), lambda: sync(url, str(mine))):
        done = attempt(copy)
        messages += [f"{path}: {reason}" for path, reason in (done.refused if done else {}).items()]
        messages += [f"{path}: missing" for path in (done.missing if done else [])]
    after = rows_of(Cache(str(mine)))
    assert before.keys() <= after.keys()
    assert {key: after[key] for key in before} == before, "rows of the sound cache were changed"
    for folder in (mine, tmp_path / "new"):
        if (folder / "cache.json").exists():
            assert not any(problem.kind == "link" for problem in verify(str(folder)).problems)
            attempt(lambda folder=folder: status(Cache(str(folder))))
    attempt(lambda: Cache(url))
    attempt(lambda: status(Cache(url)))
    attempt(lambda: merge([Cache(url)], Cache(str(tmp_path / "merged"), create=True)))
    return messages


def files_outside(tmp_path):
    inside = ("evil", "mine", "new", "merged", "user-cache", "user-state")
    paths = (path for path in tmp_path.rglob("*") if path.relative_to(tmp_path).parts[0] not in inside)
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def test_attacks_in_an_s3_bucket_are_named_by_a_pull_which_takes_the_rest(evil, bucket, tmp_path):
    """Several at once, in a bucket: a path out of the cache, a module to import, and bytes of another digest."""
    (tmp_path / "secret.txt").write_text("secret")
    before = files_outside(tmp_path)
    rows = rows_of(Cache(str(evil)))
    build(Cache(str(evil)), ["another"], fakes.teacher(), fakes.encoder())
    tar = next(shard for shard in Cache(str(evil)).shards("images/") if shard.rows == 1)
    data = bytearray((evil / tar.path).read_bytes())
    data[600] ^= 1
    (evil / tar.path).write_bytes(bytes(data))
    name = commit(evil, added=[{"path": "../secret.txt", "bytes": 6, "rows": 1, "sha256": sha256(b"secret")}])
    source_file(evil, {"kind": "planted"}, "planted_module:Teacher")
    messages = use(put_into(bucket, evil), tmp_path)
    assert named(messages, name)
    assert named(messages, tar.path, "sha256 differs")
    assert files_outside(tmp_path) == before
    assert {key: row[0] for key, row in rows_of(Cache(str(tmp_path / "new"))).items()} == {
        key: row[0] for key, row in rows.items()
    }


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        pytest.param("/etc/passwd", marks=pytest.mark.slow),
        pytest.param("features/../../secret.txt", marks=pytest.mark.slow),
        pytest.param("images\\..\\secret.txt", marks=pytest.mark.slow),
        "part.json",
        pytest.param("commits/planted.json", marks=pytest.mark.slow),
        pytest.param("local/aligners/planted.pt", marks=pytest.mark.slow),
    ],
)
def test_attack_path_a_pull_ignores_a_commit_that_names_anything_but_shards(evil, shared, tmp_path, path):
    (tmp_path / "secret.txt").write_text("secret")
    before = files_outside(tmp_path)
    good = Cache(str(evil)).shards("features/")[0]
    facts = [{"path": path, "bytes": 6, "rows": 1, "sha256": sha256(b"secret")}]
    facts.append({"path": good.path, "bytes": good.bytes, "rows": good.rows, "sha256": good.sha256})
    name = commit(evil, added=facts)
    messages = use(shared(), tmp_path)
    assert named(messages, name)
    assert files_outside(tmp_path) == before
    assert not list(tmp_path.rglob("planted*"))
    for folder in ("mine", "new"):
        assert not (tmp_path / folder / "commits" / name).exists()
        assert not (tmp_path / folder / "part.json").exists()


def test_attack_module_endpoint_and_variable_a_pull_opens_nothing_that_a_record_names(
    evil, shared, tmp_path, monkeypatch
):
    (tmp_path / "planted_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("VICTIM_TOKEN", "topsecret")
    source_file(evil, {"kind": "planted"}, "planted_module:Teacher")
    source_file(evil, {"kind": "openai", "model": "x"}, "openai:x?base_url=http://127.0.0.1:9/v1&key=VICTIM_TOKEN")
    url, ports = shared(), []
    connect = socket.socket.connect

    def note(self, address):
        ports.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    messages = use(url, tmp_path)
    assert "planted_module" not in sys.modules
    assert not any(isinstance(address, tuple) and address[1] == 9 for address in ports)
    assert not named(messages, "topsecret")


@pytest.mark.parametrize("place", ["commit", "checkpoint", "cache.json", "teacher.json", "part.json"])
def test_attack_bomb_a_pull_survives_deep_json_and_takes_the_rest(evil, shared, tmp_path, place):
    rows = rows_of(Cache(str(evil)))
    bomb = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    name = {"commit": f"commits/{sha256(bomb)}.json", "checkpoint": f"checkpoints/{sha256(bomb)}.json"}.get(
        place, place
    )
    name = "images/x-0/teacher.json" if place == "teacher.json" else name
    (evil / name).parent.mkdir(exist_ok=True)
    (evil / name).write_bytes(bomb)
    url = shared()
    messages = use(url, tmp_path)
    if place in ("commit", "cache.json", "teacher.json"):
        assert named(messages, name)
    if place not in ("cache.json", "part.json"):
        assert rows_of(Cache(str(tmp_path / "new"))) == rows


def test_attack_schema_a_pull_of_a_part_leaves_a_shard_of_another_schema(evil, shared, tmp_path):
    from teacher_cache import PullFilter

    into = str(next(evil.glob("features/*/*/shards")).relative_to(evil))
    shard = add_parquet(evil, pa.table({"x": [1]}), into)
    data = commit_bytes([shard], **WHO)
    (evil / "commits" / f"{sha256(data)}.json").write_bytes(data)
    done = pull(shared(), str(tmp_path / "part"), PullFilter(prompts=PROMPTS, task="t"))
    assert shard.path in done.refused
    assert not (tmp_path / "part" / shard.path).exists()
    assert len(rows_of(Cache(str(tmp_path / "part")))) == len(PROMPTS)


def test_attack_size_a_pull_fetches_no_object_of_another_size_than_its_commit_says(evil, shared, tmp_path):
    teacher = Cache(str(evil)).teachers()[0]
    path = f"failures/{teacher.name}/{'a' * 32}.parquet"
    data = commit_bytes([Shard(path, 6, 1, "a" * 64)], **WHO)
    (evil / "commits" / f"{sha256(data)}.json").write_bytes(data)
    (evil / "failures" / teacher.name).mkdir(parents=True, exist_ok=True)
    (evil / path).write_bytes(bytes(5_000_000))
    messages = use(shared(), tmp_path)
    assert named(messages, path, "missing")
    assert not (tmp_path / "new" / path).exists()
    assert len(rows_of(Cache(str(tmp_path / "new")))) == len(PROMPTS)


def test_attack_digest_a_pull_takes_no_file_whose_bytes_are_not_those_of_its_name(evil, shared, tmp_path):
    tar = next(evil.rglob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(bytes(data))
    name = str(tar.relative_to(evil))
    assert named(use(shared(), tmp_path), name, "sha256 differs")
    assert not (tmp_path / "new" / name).exists()
    assert not Cache(str(tmp_path / "new")).state.missing


def test_attack_future_format_a_pull_names_a_commit_of_a_newer_armada(evil, shared, tmp_path):
    name = commit(evil, format=4)
    assert named(use(shared(), tmp_path), name)
    assert not (tmp_path / "new" / "commits" / name).exists()


def test_attack_links_a_pull_and_a_push_follow_no_link_that_leaves_a_cache(evil, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    name = f"{sha256(b'secret')}.json"
    (evil / "commits" / name).symlink_to(tmp_path / "secret.txt")
    tar = next(evil.rglob("*.tar"))
    tar.rename(tmp_path / "tar")
    tar.symlink_to(tmp_path / "tar")
    done = pull(str(evil), str(tmp_path / "new"))
    assert done.missing == [str(tar.relative_to(evil))]
    assert not (tmp_path / "new" / "commits" / name).exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", mine / "images")
    with pytest.raises(ArmadaError, match="symbolic link"):
        pull(str(evil), str(mine))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_attack_record_a_part_json_of_a_stranger_takes_nothing_away_and_pays_for_nothing(evil, tmp_path):
    mine = tmp_path / "mine"
    push(str(evil), str(mine))
    rows = rows_of(Cache(str(mine)))
    everything = [str(path.relative_to(mine)) for path in mine.rglob("*") if path.is_file()]
    facts = {"of": "x\n\x1b[31m", "chosen": "y\n", "left_out": [*everything, "../secret.txt", 5]}
    (mine / "part.json").write_bytes(canonical_json(facts))
    assert rows_of(Cache(str(mine))) == rows
    assert verify(str(mine)).problems == []
    next(mine.rglob("*.tar")).unlink()
    teacher = fakes.teacher()
    with pytest.raises(ArmadaError, match="left out of this copy on purpose") as error:
        build(Cache(str(mine)), PROMPTS, teacher, fakes.encoder(dimension=4))
    assert teacher.calls == []
    assert "\x1b" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_attack_names_of_another_teacher_stay_in_the_record_of_their_own(evil, shared, tmp_path):
    """A teacher.json whose digest is not its spec's is refused, and the pull goes on."""
    record = next(evil.glob("images/*/teacher.json"))
    facts = json.loads(record.read_text())
    (evil / "images" / "evil-0").mkdir()
    (evil / "images" / "evil-0" / "teacher.json").write_text(json.dumps({**facts, "digest": spec_digest({"a": 1})}))
    url = shared()
    assert named(use(url, tmp_path), "images/evil-0/teacher.json", "is not that of the spec")
    assert not (tmp_path / "new" / "images" / "evil-0").exists()
    cache = Cache(str(tmp_path / "new"))
    (teacher,) = cache.teachers()
    assert len(open_features(cache, teacher, cache.encoders(teacher)[0])) == len(PROMPTS)
