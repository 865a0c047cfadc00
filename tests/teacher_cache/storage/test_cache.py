"""Damaged files are named and never read; of several pictures for one key, all readers take the same one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from teacher_cache import BuildOptions, Cache, CacheError, build, choose, open_features, source_of_teacher, verify
from tests import fakes

PROMPTS = [f"prompt {i}" for i in range(6)]
GONE = BuildOptions(redraw_missing=True)


@pytest.fixture
def built(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    return cache


def only(cache, pattern):
    (path,) = Path(str(cache.store)).glob(pattern)
    return path


def without_checkpoint(cache):
    only(cache, "checkpoints/*.json").unlink()


def flip(path, place=-40):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["features/*/*/shards/*.parquet", "images/*/indexes/*.parquet"])
def test_the_file_of_a_flipped_bit_is_named(built, pattern):
    flip(only(built, pattern))
    again = Cache(built.store.url)
    with pytest.raises(CacheError, match="sha256 differs"):
        open_features(again, *choose(again, None, None))


def test_readers_ignore_and_name_a_commit_with_a_flipped_bit_and_a_build_stops_before_it_pays(built, capsys):
    without_checkpoint(built)
    path = next(Path(str(built.store)).glob("commits/*.json"))
    flip(path)
    again, teacher = Cache(built.store.url), fakes.teacher()
    open_features(again, *choose(again, None, None))
    assert f"{path.name} is ignored: its content does not have the digest" in capsys.readouterr().err
    with pytest.raises(CacheError, match=r"1 commits can't be read.* or run: armada cache verify --repair"):
        build(again, [*PROMPTS, "new"], teacher, fakes.encoder())
    assert teacher.calls == []


def test_a_picture_with_a_flipped_bit_is_named_when_it_is_encoded(built):
    flip(only(built, "images/*/shards/*.tar"), 2100)
    with pytest.raises(CacheError, match="differs from its sha256"):
        build(built, PROMPTS, fakes.teacher(), fakes.encoder(version="2"))


def test_a_truncated_shard_is_named(built):
    path = only(built, "features/*/*/shards/*.parquet")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CacheError, match=r"expected \d+ bytes, found \d+"):
        open_features(built, *choose(built, None, None))


def test_a_deleted_feature_shard_is_encoded_again_without_a_call_if_it_is_gone_for_good(built):
    only(built, "features/*/*/shards/*.parquet").unlink()
    teacher = fakes.teacher()
    report = build(built, PROMPTS, teacher, fakes.encoder(), GONE)
    assert (report.encoded, teacher.calls) == (6, [])


def test_a_build_stops_on_a_missing_tar_and_draws_it_again_if_it_is_gone_for_good(built):
    only(built, "images/*/shards/*.tar").unlink()
    teacher = fakes.teacher()
    with pytest.raises(CacheError, match=r"lacks 1 files that its commits name .*\.tar.*--redraw-missing"):
        build(built, PROMPTS, teacher, fakes.encoder())
    assert teacher.calls == []
    assert build(built, PROMPTS, fakes.teacher(), fakes.encoder(), GONE).calls == 6
    assert build(built, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0


def test_a_build_stops_on_half_a_file_and_names_the_command_that_saves_what_is_sound(built):
    path = only(built, "images/*/shards/*.tar")
    path.write_bytes(path.read_bytes()[:-12_000])
    teacher = fakes.teacher()
    with pytest.raises(CacheError, match=r"lacks a part of 1 files .*\.tar.*verify --repair .*, which saves"):
        build(built, PROMPTS, teacher, fakes.encoder())
    assert teacher.calls == []
    (problem,) = verify(built.store.url, repair=True).problems
    saved = int(problem.mended.split("; ")[-1].split()[0])
    assert 0 < saved < 6
    assert build(built, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 6 - saved


def test_the_rest_of_half_a_file_is_not_read_if_it_is_gone_for_good(built):
    path = only(built, "images/*/shards/*.tar")
    path.write_bytes(path.read_bytes()[:-12_000])
    assert build(Cache(built.store.url), PROMPTS[:1], fakes.teacher(), fakes.encoder(), GONE).calls == 1
    assert build(built, PROMPTS[:1], fakes.teacher(), fakes.encoder()).calls == 0
    verify(built.store.url, repair=True)
    assert verify(built.store.url).problems == []


def test_pictures_that_were_lost_count_again_when_their_file_returns(built):
    path = only(built, "images/*/shards/*.tar")
    data = path.read_bytes()
    path.unlink()
    build(built, PROMPTS[:1], fakes.teacher(), fakes.encoder(), GONE)
    assert built.images(source_of_teacher(fakes.teacher())).num_rows == 1
    path.write_bytes(data)
    assert build(built, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0


def test_a_commit_with_a_flipped_bit_counts_as_the_checkpoint_has_it_until_a_repair_restores_it(built):
    path = next(Path(str(built.store)).glob("commits/*.json"))
    data = path.read_bytes()
    flip(path)
    assert build(Cache(built.store.url), PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0
    (problem,) = verify(built.store.url, repair=True).problems
    assert (problem.path, problem.kind) == (f"commits/{path.name}", "damaged")
    assert path.read_bytes() == data
    assert verify(built.store.url).problems == []


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("witness", ["card", "checkpoint"])
def test_a_build_stops_if_a_copy_has_fewer_commits_than_its_card_or_its_checkpoint_states(built, kept, witness):
    if witness == "card":
        without_checkpoint(built)
    else:
        only(built, "README.md").unlink()
    commits = sorted(Path(str(built.store)).glob("commits/*.json"))
    for path in commits[kept:]:
        path.unlink()
    for path in Path(str(built.store)).rglob("shards/*"):
        path.unlink()
    teacher = fakes.teacher()
    with pytest.raises(CacheError, match=rf"{len(commits) - kept} of {len(commits)} commits; wait until its copy"):
        build(built, PROMPTS, teacher, fakes.encoder())
    assert teacher.calls == []
    assert build(built, PROMPTS, teacher, fakes.encoder(), GONE).calls == 6


def test_a_changed_teacher_spec_is_named(built):
    path = only(built, "images/*/teacher.json")
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "spec": {**facts["spec"], "style": "bold"}}))
    with pytest.raises(CacheError, match="is not that of the spec"):
        built.teachers()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (99, "the cache has format 99, and this armada knows 2; update armada"),
        (1, "expected format 2, found 1; this armada can't read the cache: build a new one in another folder"),
    ],
)
def test_another_format_is_refused_and_never_repaired_into_this_one(built, found, message):
    path = Path(str(built.store)) / "cache.json"
    path.write_text(json.dumps({"format": found, "made_by": "armada"}))
    for attempt in (lambda: Cache(built.store.url), lambda: verify(built.store.url, repair=True)):
        with pytest.raises(CacheError, match=message):
            attempt()
    assert json.loads(path.read_text())["format"] == found


def test_the_error_of_a_missing_cache_states_how_to_make_one(tmp_path):
    with pytest.raises(CacheError, match="armada cache build"):
        Cache(str(tmp_path / "nothing"))


def test_of_two_pictures_for_one_key_all_readers_take_the_smallest_digest(tmp_path, monkeypatch):
    """Two machines sent the same request and received different pictures; their folders are copied together."""
    caches = []
    for number in range(2):
        cache = Cache(str(tmp_path / f"machine{number}"), create=True)
        teacher = fakes.teacher()
        monkeypatch.setattr(
            teacher, "_answer", lambda r, n=number: fakes.Picture(r.image_key, fakes.png(r.seed + n), "png", None, 0.1)
        )
        build(cache, PROMPTS, teacher, fakes.encoder())
        caches.append(cache)
    source, encoder = choose(caches[0], None, None)
    rows = [{row["image_key"]: row["image_sha256"] for row in c.images(source).to_pylist()} for c in caches]
    shutil.copytree(str(caches[1].store), str(caches[0].store), dirs_exist_ok=True)

    union = Cache(str(caches[0].store))
    merged = union.images(source)
    canonical_rows = {row["image_key"]: row["image_sha256"] for row in merged.to_pylist()}
    assert canonical_rows == {key: min(rows[0][key], rows[1][key]) for key in rows[0]}
    features = open_features(union, source, encoder)
    digests = dict(zip(features.keys.to_pylist(), features.image_sha256.to_pylist(), strict=True))
    assert digests == canonical_rows


def test_a_feature_of_a_picture_that_is_not_canonical_counts_as_missing(tmp_path, monkeypatch):
    first = Cache(str(tmp_path / "first"), create=True)
    build(first, PROMPTS, fakes.teacher(), fakes.encoder())
    second = Cache(str(tmp_path / "second"), create=True)
    teacher = fakes.teacher()
    monkeypatch.setattr(
        teacher, "_answer", lambda r: fakes.Picture(r.image_key, fakes.png(r.seed + 1), "png", None, 0.1)
    )
    build(second, PROMPTS, teacher, fakes.encoder())
    shutil.rmtree(Path(str(second.store)) / "features")
    shutil.copytree(str(second.store), str(first.store), dirs_exist_ok=True)
    union = Cache(str(first.store))
    source = source_of_teacher(fakes.teacher())
    canonical_rows = {row["image_key"]: row["image_sha256"] for row in union.images(source).to_pylist()}
    features = open_features(union, *choose(union, None, None))
    found = dict(zip(features.keys.to_pylist(), features.image_sha256.to_pylist(), strict=True))
    assert 0 < len(found) < 6
    assert found.items() <= canonical_rows.items()
    assert np.isfinite(features.take(np.arange(len(found)))).all()
    report = build(union, PROMPTS, fakes.teacher(), fakes.encoder(), GONE)
    assert (report.calls, report.encoded) == (0, 6 - report.features_at_hand)
    assert 0 < report.encoded <= 6
    features = open_features(union, *choose(union, None, None))
    assert dict(zip(features.keys.to_pylist(), features.image_sha256.to_pylist(), strict=True)) == canonical_rows
