"""A cache written by a hostile colleague: each attack is refused or named, and nothing outside is read or written.

Ten attacks: a path out of the cache, a module to import, an endpoint to call, the variable of a key, a JSON bomb,
another schema, a future format, an index of another tar, symbolic links, and two pictures of one key.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from teacher_cache import (
    Cache,
    build,
    choose,
    compact,
    export,
    merge,
    open_features,
    recompute,
    status,
    verify,
)
from teacher_cache.format.commits import Shard, commit_bytes
from teacher_cache.format.shards import index_of, write_samples, write_table
from teacher_cache.keys import canonical_json, sha256, spec_digest
from teacher_cache.registry.packages import file_digest
from teacher_cache.storage.pictures import image_rows
from tests import fakes
from tests.faults.attempts import Attempts, named
from tests.teacher_cache.maintenance.caches import rows_of

pytestmark = pytest.mark.faults
PROMPTS = [f"prompt {number}" for number in range(6)]
WHO = {"by": "mallory@elsewhere", "at": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def victim(tmp_path):
    """A sound cache of six pictures, beside a secret that no command may touch."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "cache"
    build(Cache(str(folder), create=True), PROMPTS, fakes.teacher(), fakes.encoder())
    return folder


@pytest.fixture
def outside(tmp_path):
    """The files outside the cache, which must stay as they are."""

    def state():
        skipped = ("cache", "user-cache", "user-state", "state", "target", "export", "samples")
        files = [p for p in sorted(tmp_path.rglob("*")) if p.relative_to(tmp_path).parts[0] not in skipped]
        return {str(path): path.read_bytes() if path.is_file() else None for path in files}

    return state


def commit(folder, *, text=None, **facts):
    """Write a commit with the right digest in its name, as a colleague's program could; return its name."""
    data = (
        text
        if text is not None
        else canonical_json({"format": 2, "added": [], "replaced": [], "spent": [], "prompts": "", **WHO, **facts})
    )
    path = folder / "commits" / f"{sha256(data)}.json"
    path.write_bytes(data)
    return path.name


def use(folder, tmp_path):
    """Run everything that reads a cache; return the messages of what was refused. Only ArmadaErrors are allowed."""
    attempt = Attempts()
    messages = attempt.messages

    def cache():
        return Cache(str(folder))

    def read():
        opened = cache()
        features = open_features(opened, *choose(opened, None, None))
        return features.take(np.arange(len(features)))

    def checked(repair):
        found = attempt(lambda: verify(str(folder), repair=repair))
        messages.extend(f"{problem.path}: {problem.message}" for problem in (found.problems if found else []))

    checked(repair=False)
    attempt(read)
    attempt(lambda: status(cache()))
    attempt(lambda: build(cache(), PROMPTS, fakes.teacher(), fakes.encoder()))
    attempt(lambda: export(cache(), str(tmp_path / "samples"), "webdataset"))
    attempt(lambda: export(cache(), str(tmp_path / "export"), "parquet"))
    target = attempt(lambda: Cache(str(tmp_path / "target"), create=True))
    merged = attempt(lambda: merge([cache()], target))
    messages += [f"{path}: {reason}" for path, reason in (merged.refused if merged else {}).items()]
    attempt(lambda: recompute(cache(), 2))
    attempt(lambda: compact(cache(), vacuum=True, retain_hours=0))
    checked(repair=True)
    return messages


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "/etc/passwd",
        "features/../../secret.txt",
        "images\\..\\secret.txt",
        "images/t-0/shards/a\0.tar",
        "local/aligners/planted.pt",
        "cache.json",
        "commits/planted.json",
        "images/fake-543ad4b87dd7d1b4/teacher.json",
    ],
)
def test_attack_path_a_commit_that_names_anything_but_shards_is_ignored_as_a_whole(victim, outside, tmp_path, path):
    rows, before = rows_of(Cache(str(victim))), outside()
    digest = sha256(b"secret")
    good = Cache(str(victim)).shards("features/")[0]
    facts = [{"path": path, "bytes": 6, "rows": 1, "sha256": digest}]
    facts.append({"path": good.path, "bytes": good.bytes, "rows": good.rows, "sha256": good.sha256})
    name = commit(victim, added=facts)
    messages = use(victim, tmp_path)
    assert named(messages, name)
    assert outside() == before
    assert rows_of(Cache(str(victim))) == rows
    assert not (tmp_path / "target" / "local" / "aligners").exists()
    assert verify(str(victim)).problems == []


def test_attack_path_a_replacement_of_pictures_by_nothing_is_ignored(victim, tmp_path):
    cache = Cache(str(victim))
    tars = cache.shards("images/")
    entries = [{"commit": entry.commit, "path": entry.path} for entry in cache.state.entries_of(tars)]
    name = commit(victim, replaced=entries)
    assert named(use(victim, tmp_path), name, "by nothing")
    assert build(Cache(str(victim)), PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0


def source_file(folder, spec, text, kind="teacher"):
    """Register a source whose record says that it is opened by `text`."""
    digest = spec_digest(spec)
    name = f"{spec['kind']}-{digest[:16]}"
    path = folder / "images" / name / "teacher.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"digest": digest, "spec": spec, "text": text, "licence": "CC0", "deterministic": True}))
    return path


def test_attack_module_no_command_that_reads_a_cache_imports_what_it_names(victim, outside, tmp_path, monkeypatch):
    (tmp_path / "planted_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = outside()
    source_file(victim, {"kind": "planted"}, "planted_module:Teacher")
    use(victim, tmp_path)
    assert "planted_module" not in sys.modules
    assert outside() == before


def test_attack_endpoint_and_key_variable_no_command_that_reads_a_cache_calls_what_it_names(
    victim, tmp_path, monkeypatch
):
    import socket

    def refuse(*words):
        raise AssertionError(f"a connection was made: {words}")

    monkeypatch.setenv("VICTIM_TOKEN", "secret")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    text = "openai:x?base_url=http://127.0.0.1:9/v1&key=VICTIM_TOKEN"
    source_file(victim, {"kind": "openai", "model": "x"}, text)
    for message in use(victim, tmp_path):
        assert "secret" not in message


@pytest.mark.parametrize("place", ["commit", "checkpoint", "cache.json", "teacher.json"])
def test_attack_bomb_deep_json_is_named_and_ends_nothing(victim, tmp_path, place):
    bomb = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    if place == "commit":
        name = commit(victim, text=bomb)
    elif place == "checkpoint":
        name = f"{sha256(bomb)}.json"
        (victim / "checkpoints" / name).write_bytes(bomb)
    elif place == "cache.json":
        name = "cache.json"
        (victim / name).write_bytes(bomb)
    else:
        name = "images/x-0/teacher.json"
        (victim / name).parent.mkdir()
        (victim / name).write_bytes(bomb)
    assert named(use(victim, tmp_path), name)
    assert build(Cache(str(victim)), PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0
    assert verify(str(victim)).problems == []


def add_parquet(folder, table, into):
    """Add a Parquet file with its right name and digest, and a commit that names it; return its path."""
    draft = folder.parent / "draft.parquet"
    write_table(draft, table) if table.num_columns > 1 else parquet.write_table(table, draft)
    digest = file_digest(draft)
    path = f"{into}/{digest[:32]}.parquet"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shard = Shard(path, draft.stat().st_size, table.num_rows, digest)
    shutil.move(draft, folder / path)
    return shard


@pytest.mark.parametrize("folder", ["features", "failures"])
@pytest.mark.parametrize("kind", ["no columns", "other types", "other dimension"])
def test_attack_schema_a_shard_of_another_schema_is_named_and_moved_aside(victim, tmp_path, folder, kind):
    rows = rows_of(Cache(str(victim)))
    keys = pa.array(["00" * 32])
    tables = {
        "no columns": pa.table({"x": [1]}),
        "other types": pa.table({"image_key": [1], "image_sha256": [2], "feature": ["x"]}),
        "other dimension": pa.table(
            {
                "image_key": keys,
                "image_sha256": keys,
                "prompt_key": keys,
                "sample": pa.array([0], pa.int32()),
                "feature": pa.array([[1.0]], pa.list_(pa.float32(), 1)),
            }
        ),
    }
    into = str(
        next(
            victim.glob("features/*/*/shards" if folder == "features" else "failures/*"),
            victim / "failures/fake-543ad4b87dd7d1b4",
        ).relative_to(victim)
    )
    shard = add_parquet(victim, tables[kind], into)
    (victim / "commits" / "x").parent.mkdir(exist_ok=True)
    data = commit_bytes([shard], **WHO)
    (victim / "commits" / f"{sha256(data)}.json").write_bytes(data)
    assert named(use(victim, tmp_path), shard.path)
    assert rows_of(Cache(str(victim))) == rows
    assert verify(str(victim)).problems == []


def test_attack_schema_a_shard_that_no_commit_names_is_not_adopted(victim, tmp_path):
    shard = add_parquet(victim, pa.table({"x": [1]}), next(victim.glob("features/*/*/shards")).relative_to(victim))
    found = verify(str(victim), repair=True).problems
    assert [(problem.path, problem.kind) for problem in found] == [(shard.path, "orphan")]
    assert "moved to quarantine" in found[0].mended
    assert verify(str(victim)).problems == []


def test_attack_future_format_is_refused_stops_a_build_and_is_never_moved(victim, tmp_path):
    name = commit(victim, format=4)
    messages = use(victim, tmp_path)
    assert named(messages, name, "format 4", "update armada")
    assert named(messages, "1 commits can't be read")
    assert (victim / "commits" / name).exists()
    (victim / "commits" / name).unlink()
    (victim / "cache.json").write_text('{"format":3,"made_by":"armada"}')
    data = (victim / "cache.json").read_bytes()
    assert named(use(victim, tmp_path), "the cache has format 3, and this armada knows 2; update armada")
    assert (victim / "cache.json").read_bytes() == data


def test_attack_index_of_another_tar_is_named_and_made_again_from_the_tar(victim, tmp_path):
    cache = Cache(str(victim))
    (teacher,) = cache.teachers()
    (tar,) = cache.shards("images/")
    rows, table = rows_of(cache), cache.table(tar)
    swapped = table.set_column(0, "image_key", table["image_key"].take(pa.array([1, 0, *range(2, 6)])))
    index = cache.write_shard(f"images/{teacher.name}/indexes", swapped)
    for path in [*victim.glob("commits/*.json"), *victim.glob("checkpoints/*.json")]:
        path.unlink()
    data = commit_bytes([Shard(tar.path, tar.bytes, tar.rows, tar.sha256, index)], **WHO)
    (victim / "commits" / f"{sha256(data)}.json").write_bytes(data)
    found = verify(str(victim), repair=True).problems
    assert any(problem.path == index.path and "is not the index of its tar" in problem.message for problem in found)
    assert verify(str(victim)).problems == []
    assert {key: digest for key, (digest, _) in rows_of(Cache(str(victim))).items()} == {
        key: digest for key, (digest, _) in rows.items()
    }


def test_attack_symbolic_links_that_leave_the_cache_are_neither_read_nor_written(victim, outside, tmp_path):
    cache = Cache(str(victim))
    (shard,) = cache.shards("features/")
    target = tmp_path / "elsewhere.parquet"
    shutil.move(victim / shard.path, target)
    (victim / shard.path).symlink_to(target)
    (tmp_path / "folder").mkdir()
    (victim / "failures").rename(tmp_path / "failures") if (victim / "failures").exists() else None
    (victim / "failures").symlink_to(tmp_path / "folder")
    (victim / "commits" / f"{'0' * 64}.json").symlink_to(tmp_path / "secret.txt")
    before = outside()
    messages = use(victim, tmp_path)
    assert named(messages, shard.path, "symbolic link")
    assert named(messages, "lacks 1 files")
    assert outside() == before
    assert os.readlink(victim / shard.path) == str(target)


@pytest.mark.parametrize("where", ["committed", "orphan"])
def test_attack_doubled_key_a_tar_with_two_pictures_of_one_key_is_named_and_moved_aside(victim, tmp_path, where):
    cache = Cache(str(victim))
    (teacher,) = cache.teachers()
    rows = rows_of(cache)
    facts = image_rows(cache.images(teacher))[:1]
    draft = tmp_path / "draft.tar"
    picture = next(iter(cache.images(teacher).to_pylist()))
    data = cache.store.read_range(picture["path"], picture["offset"], picture["bytes"])
    write_samples(draft, facts, [data])
    index = index_of(draft)
    write_samples(draft, facts * 2, [data] * 2)
    digest = file_digest(draft)
    tar = Shard(f"images/{teacher.name}/shards/{digest[:32]}.tar", draft.stat().st_size, 2, digest)
    shutil.move(draft, victim / tar.path)
    if where == "committed":
        doubled = cache.write_shard(f"images/{teacher.name}/indexes", pa.concat_tables([index, index]))
        text = commit_bytes([Shard(tar.path, tar.bytes, 2, tar.sha256, doubled)], **WHO)
        (victim / "commits" / f"{sha256(text)}.json").write_bytes(text)
    messages = use(victim, tmp_path)
    assert named(messages, tar.path)
    assert {key: row[0] for key, row in rows_of(Cache(str(victim))).items()} == {k: row[0] for k, row in rows.items()}
    assert build(Cache(str(victim)), PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0
    assert verify(str(victim)).problems == []


def test_foreign_files_among_the_commits_are_named_and_not_fatal(victim, tmp_path):
    (victim / "commits" / "notes.txt").write_text("mine")
    (victim / "commits" / "folder").mkdir()
    messages = use(victim, tmp_path)
    assert named(messages, "commits/notes.txt", "it is no commit of a cache")
    assert Path(victim / "quarantine" / "commits" / "notes.txt").read_text() == "mine"
    assert verify(str(victim)).problems == []
