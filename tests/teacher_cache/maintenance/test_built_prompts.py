"""The prompts of a cache are listed with the number of their pictures and failures, per teacher."""

from teacher_cache import BuildOptions, build, built_prompts
from tests.fakes import encoder, teacher


def test_every_prompt_is_listed_once_per_teacher_with_its_samples(cache):
    build(cache, ["b", "a", "[refused] c", "a"], teacher(), encoder(), BuildOptions(samples=2))
    build(cache, ["a", "d"], teacher(style="bold"), encoder())
    rows = built_prompts(cache).to_pylist()
    counted = {(row["text"], row["samples"], row["failed"]) for row in rows}
    assert counted == {("a", 2, 0), ("b", 2, 0), ("[refused] c", 0, 2), ("a", 1, 0), ("d", 1, 0)}
    assert {row["teacher"] for row in rows} == {source.name for source in cache.teachers()}
    assert rows == sorted(rows, key=lambda row: (row["teacher"], row["text"]))


def test_a_cache_without_pictures_has_no_prompts(cache):
    assert built_prompts(cache).num_rows == 0
