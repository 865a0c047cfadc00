"""The reader in docs/cache-format.md, which uses pyarrow alone, reads the rows that a cache has in every state."""

from dataclasses import replace
from pathlib import Path

import pytest

from teacher_cache import BuildOptions, Cache, build, choose, compact, merge, prompt_key
from teacher_cache.registry.specs import Spec
from tests.documents import python_block
from tests.fakes import FakeTeacher
from tests.teacher_cache.maintenance.caches import PROMPTS, SMALL, adapters, rows_of

READER: dict = {}
exec(compile(python_block("def live_shards"), "cache-format.md", "exec"), READER)


def read(cache):
    """Return the rows of the documented reader: (prompt key, sample) -> bytes of the feature."""
    teacher, encoder = choose(cache, None, None)
    table = READER["read_features"](Path(str(cache.store)), teacher.name, encoder.name)
    assert table.column_names == ["prompt", "sample", "feature"]
    names = zip(table["prompt"].to_pylist(), table["sample"].to_pylist(), strict=True)
    vectors = table["feature"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    rows = {(prompt_key(prompt), sample): row.tobytes() for (prompt, sample), row in zip(names, vectors, strict=True)}
    assert len(rows) == len(table), "each row once"
    return rows


def expected(cache):
    teacher, _ = choose(cache, None, None)
    names = {row["image_key"]: (row["prompt_key"], row["sample"]) for row in cache.images(teacher).to_pylist()}
    return {names[key]: feature for key, (_, feature) in rows_of(cache).items() if feature}


class Again(FakeTeacher):
    """Draws another picture for the same request, as a real teacher does when it is paid twice."""

    def _answer(self, request):
        return super()._answer(replace(request, seed=request.seed ^ 1))


@pytest.fixture
def twice(tmp_path):
    """A merge of two caches that have paid for ten prompts twice; of five prompts there are two samples."""
    parts = []
    teacher, encoder = adapters()
    for name, prompts, drawn_by in (("a", PROMPTS[:20], teacher), ("b", PROMPTS[10:], Again(Spec("again", {})))):
        parts.append(Cache(str(tmp_path / name), create=True))
        build(parts[-1], prompts, drawn_by, encoder, SMALL)
    build(parts[0], PROMPTS[:5], *adapters(), BuildOptions(samples=2))
    merged = Cache(str(tmp_path / "merged"), create=True)
    merge(parts, merged)
    return merged


def test_a_merged_a_compacted_and_a_vacuumed_cache_are_read_row_for_row(twice):
    rows = expected(twice)
    assert len(rows) == 35
    parts = [rows_of(Cache(str(Path(str(twice.store)).parent / name))) for name in "ab"]
    assert sum(parts[0][key][0] != parts[1][key][0] for key in parts[0].keys() & parts[1].keys()) == 10
    assert read(twice) == rows
    compact(twice)
    twice.refresh()
    assert read(twice) == rows == expected(twice)
    compact(twice, vacuum=True, retain_hours=0)
    twice.refresh()
    assert read(twice) == rows


def test_a_replacement_whose_shard_is_not_there_yet_replaces_nothing(twice):
    rows = read(twice)
    before = {shard.path for shard in twice.shards()}
    compact(twice)
    twice.refresh()
    new = next(shard for shard in twice.shards("features/") if shard.path not in before)
    (Path(str(twice.store)) / new.path).unlink()
    assert read(twice) == rows
