"""Every kind of file is damaged, truncated or deleted: verify names it, repair and a build restore its rows, and no
reader ever returns a wrong row.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from teacher_cache import ArmadaError, BuildOptions, Cache, build, choose, compact, open_features, recompute, verify
from teacher_cache.format.commits import Shard
from tests import fakes
from tests.teacher_cache.reading.test_reader import expected

PROMPTS = [f"prompt {i}" for i in range(9)]
SPECS = ("tests.fakes:FakeTeacher", "tests.fakes:FakeEncoder")
OPTIONS = BuildOptions(shard_rows=4, seal_rows=4)
FILES = {
    "cache.json": "cache.json",
    "commit": "commits/*.json",
    "teacher": "images/*/teacher.json",
    "tar": "images/*/shards/*.tar",
    "index": "images/*/indexes/*.parquet",
    "encoder": "features/*/*/encoder.json",
    "features": "features/*/*/shards/*.parquet",
    "failures": "failures/*/*.parquet",
}


def opened():
    from teacher_cache import open_encoder, open_teacher

    return open_teacher(SPECS[0]), open_encoder(SPECS[1])


@pytest.fixture
def built(cache):
    build(cache, [*PROMPTS, "[refused] x"], *opened(), OPTIONS)
    open_features(cache, *choose(cache, None, None))
    assert verify(cache.store.url).problems == []
    return Path(cache.store.url)


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 0x20
        path.write_bytes(data)
    elif how == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()


def read_rows(folder):
    """Return the number of rows that a reader finds, all of which must be right."""
    cache = Cache(str(folder))
    features = open_features(cache, *choose(cache, None, None))
    rows = features.rows_of(PROMPTS)
    found = [prompt for prompt, row in zip(PROMPTS, rows, strict=True) if row >= 0]
    if found:
        assert np.array_equal(features.take(rows[rows >= 0]), expected(found))
    return len(found)


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
@pytest.mark.parametrize("kind", FILES)
def test_verify_names_the_damaged_file_and_repair_and_build_restore_its_rows(built, kind, how):
    path = sorted(built.glob(FILES[kind]))[0]
    damage(path, how)
    name = str(path.relative_to(built))
    found = verify(str(built))
    with contextlib.suppress(ArmadaError, ValueError):
        read_rows(built)
    named = [problem.path for problem in found.problems]
    if how == "delete" and kind == "commit":
        assert named[0] == name  # the checkpoint contains it
        assert len(named) > 1  # the shards of the commit are orphans
    elif how == "delete" and kind in ("teacher", "encoder"):
        assert named == []  # a build writes the spec again
    else:
        assert name in named, named

    verify(str(built), repair=True)
    teacher, encoder = opened()
    # A repair can't know whether a file that is missing, not damaged, is gone for good.
    options = replace(OPTIONS, redraw_missing=how == "delete")
    report = build(Cache(str(built)), [*PROMPTS, "[refused] x"], teacher, encoder, options)
    assert read_rows(built) == len(PROMPTS)
    assert verify(str(built)).problems == []
    lost = {
        "tar": {"flip": 1, "truncate": 4, "delete": 4},
        "failures": dict.fromkeys(("flip", "truncate", "delete"), 1),
    }
    assert report.calls <= lost.get(kind, {}).get(how, 0), "a picture that could be saved was paid for again"


def test_repair_moves_damaged_files_aside_and_deletes_nothing(built):
    path = sorted(built.glob(FILES["tar"]))[0]
    damage(path, "truncate")
    broken = path.read_bytes()
    verify(str(built), repair=True)
    assert (built / "quarantine" / path.relative_to(built)).read_bytes() == broken


def test_a_commit_of_a_missing_shard_is_reported_and_the_other_rows_are_read(built):
    cache, path = Cache(str(built)), f"features/x/y/shards/{'0' * 32}.parquet"
    cache.commit([Shard(path, 1, 1, "0" * 64)], by="x", at="y")
    (problem,) = verify(str(built)).problems
    assert (problem.kind, problem.path) == ("missing", path)
    assert read_rows(built) == len(PROMPTS)


def test_a_file_left_by_a_kill_before_its_commit_is_an_orphan_and_is_committed(built):
    for path in [*built.glob("commits/*.json"), *built.glob("checkpoints/*.json")]:
        path.unlink()
    card, *orphans = verify(str(built)).problems
    assert card.path == "README.md"
    assert {problem.kind for problem in orphans} == {"orphan"}
    verify(str(built), repair=True)
    assert verify(str(built)).problems == []
    teacher, encoder = opened()
    report = build(Cache(str(built)), [*PROMPTS, "[refused] x"], teacher, encoder)
    assert (report.calls, report.encoded) == (0, 0)


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_decoded_features_that_are_damaged_are_named_and_decoded_again(built, how):
    (path,) = Cache(str(built)).derived_folder.glob("matrices/*/features.npy")
    damage(path, how)
    (problem,) = verify(str(built)).problems
    assert problem.path == str(path.parent)
    assert verify(str(built), repair=True).problems[0].mended
    assert read_rows(built) == len(PROMPTS)
    assert verify(str(built)).problems == []


def test_a_broken_spool_is_named_and_moved_aside(built, tmp_path):
    (spool,) = (tmp_path / "user-state").rglob("spool.sqlite")
    data = bytearray(spool.read_bytes())
    data[100:4096] = bytes(3996)
    spool.write_bytes(data)
    (problem,) = verify(str(built)).problems
    assert problem.path == str(spool)
    (problem,) = verify(str(built), repair=True).problems
    assert problem.mended == "moved aside; 0 unsealed rows that could be read are kept"
    assert build(Cache(str(built)), [*PROMPTS, "new"], *opened()).calls == 1


def test_a_damaged_shard_of_a_vacuumed_compaction_is_named_alone_and_repaired_with_what_it_replaced(built):
    compact(Cache(str(built)), vacuum=True, retain_hours=0)
    (path,) = built.glob("images/*/shards/*.tar")
    path.write_bytes(path.read_bytes()[:-12_000])
    with pytest.raises(ArmadaError, match=r"a part of 1 files .*verify --repair .*, which saves what is sound"):
        build(Cache(str(built)), [*PROMPTS, "new"], *opened())
    (problem,) = verify(str(built)).problems
    assert problem.path == str(path.relative_to(built))
    (problem,) = verify(str(built), repair=True).problems
    saved = int(problem.mended.split("; ")[-1].split()[0])
    assert 0 < saved < len(PROMPTS)
    assert verify(str(built)).problems == []
    assert build(Cache(str(built)), PROMPTS, *opened()).calls == len(PROMPTS) - saved


def test_replaced_files_are_checked_too_for_they_count_again_if_what_replaces_them_is_lost(built):
    (old, *_) = sorted(built.glob("images/*/shards/*.tar"))
    compact(Cache(str(built)))
    new = max(built.glob("images/*/shards/*.tar"), key=lambda path: path.stat().st_size)
    damage(old, "truncate")
    assert [problem.path for problem in verify(str(built)).problems] == [str(old.relative_to(built))]
    damage(new, "truncate")
    verify(str(built), repair=True)
    assert verify(str(built)).problems == []
    lost = build(Cache(str(built)), PROMPTS, *opened()).calls
    assert 0 < lost <= 4  # only pictures of the file that was damaged twice over


def test_recompute_finds_no_difference_if_nothing_changed(built):
    results = recompute(Cache(str(built)), 5)
    assert [result.asked for result in results] == [0, 5]
    assert results[0].skipped == "the teacher isn't deterministic, or doesn't say so"
    assert results[1].differing == 0
    assert 0 < results[1].largest_difference < 1e-3


def test_recompute_finds_an_encoder_that_changed_without_a_new_spec(built, monkeypatch):
    encode = fakes.FakeEncoder.encode
    monkeypatch.setattr(fakes.FakeEncoder, "encode", lambda self, *words: encode(self, *words) * 1.1)
    assert recompute(Cache(str(built)), 5)[1].differing == 5


def test_recompute_finds_a_teacher_that_claims_to_be_deterministic_and_is_not(cache, monkeypatch):
    monkeypatch.setattr(fakes.FakeTeacher, "deterministic", True, raising=False)
    build(cache, PROMPTS, *opened())
    assert recompute(cache, 4)[0].differing == 0
    monkeypatch.setattr(
        fakes.FakeTeacher, "_answer", lambda self, r: fakes.Picture(r.image_key, fakes.png(0), "png", None)
    )
    assert recompute(cache, 4)[0].differing == 4


def test_verifying_a_missing_cache_is_an_error(tmp_path):
    with pytest.raises(ArmadaError, match="no cache here"):
        verify(str(tmp_path))
