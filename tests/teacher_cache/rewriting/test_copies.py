"""Rewritten prompts in copies: merged, compacted, exported, pulled, verified and repaired like pictures."""

import shutil

import pyarrow as pa
import pytest

from teacher_cache import (
    Cache,
    CacheError,
    PullFilter,
    compact,
    export,
    merge,
    pull,
    recompute,
    source_of_teacher,
    verify,
)
from teacher_cache.format.commits import commit_bytes, parse_commit
from teacher_cache.format.provenance import Provenance
from teacher_cache.keys import sha256
from teacher_cache.rewriting.rows import commit_rewrites, read_rewrites, register_rewriter, rewriters
from tests import fakes
from tests.teacher_cache.chat_server import chat_server, written
from tests.teacher_cache.rewriting.recipe_builds import FAKE, OWN, TEXTS, drawn, no_long_waits, painter, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_long_waits")


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"), create=True)


def two_rewrites(tmp_path):
    """Two caches of the same rewriter, in which each text has another prompt."""
    found = []
    for name in ("a", "b"):
        with chat_server(lambda text, number, name=name: f"{name} {sha256((name + text).encode())}") as chat:
            found.append(Cache(str(tmp_path / name), create=True))
            run(found[-1], painter(chat.spec, text=f"{FAKE}?style={name}"))
    return found


def test_of_two_rewrites_of_a_text_the_same_one_counts_everywhere(tmp_path):
    one, other = two_rewrites(tmp_path)
    into = [Cache(str(tmp_path / name), create=True) for name in ("ab", "ba")]
    merge([one, other], into[0])
    merge([other, one], into[1])
    tables = [read_rewrites(cache, rewriters(cache)[0]) for cache in into]
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows == len(TEXTS)
    every = [read_rewrites(cache, rewriters(cache)[0]) for cache in (one, other)]
    smallest = [min(pair) for pair in zip(*(table["rewritten_sha256"].to_pylist() for table in every), strict=True)]
    assert tables[0]["rewritten_sha256"].to_pylist() == smallest
    assert {text.split()[0] for text in tables[0]["rewritten"].to_pylist()} == {"a", "b"}
    for name, cache in zip("ab", (one, other), strict=True):  # a picture says what it was drawn from
        teacher = painter(None, f"{FAKE}?style={name}")
        assert all(prompt.startswith(f"{name} ") for prompt in drawn_in(into[0], cache).values()), teacher
    compact(into[0], vacuum=True, retain_hours=0)
    assert read_rewrites(into[0], rewriters(into[0])[0]).equals(tables[1])
    assert verify(str(tmp_path / "ab")).problems == []


def drawn_in(cache, of):
    (teacher,) = of.teachers()
    rows = cache.images(teacher, ["prompt", "drawn_prompt"]).to_pylist()
    return {row["prompt"]: row["drawn_prompt"] for row in rows}


def test_rewrites_are_compacted_exported_pulled_and_verified_like_pictures(cache, tmp_path):
    with chat_server(lambda text, number: written("", refusal="no") if text == "bad" else f"seen {text}") as chat:
        teacher = painter(chat.spec)
        for text in [*TEXTS, "bad"]:
            run(cache, teacher, [text])
        run(cache, fakes.teacher(style="other"), TEXTS)
        before = read_rewrites(cache, rewriters(cache)[0])
        compact(cache, vacuum=True, retain_hours=0)
        assert len(cache.shards("rewrites/")) == 1
        assert read_rewrites(cache, rewriters(cache)[0]).equals(before)
        assert set(drawn(cache, teacher).values()) == {f"seen {text}" for text in TEXTS}
        url = str(tmp_path / "cache")
        export(cache, str(tmp_path / "exported"), "parquet")
        pull(url, str(tmp_path / "pulled"))
        pull(url, str(tmp_path / "part"), PullFilter(teacher=source_of_teacher(teacher).name))
        pull(url, str(tmp_path / "plain"), PullFilter(teacher=source_of_teacher(fakes.teacher(style="other")).name))
        for name in ("exported", "pulled", "part"):
            copy = Cache(str(tmp_path / name))
            assert read_rewrites(copy, rewriters(copy)[0]).equals(before)
            assert verify(str(tmp_path / name)).problems == []
            report = run(copy, painter(chat.spec), [*TEXTS, "bad"])
            assert (report.calls, dict(report.failed)) == (0, {"refused": 1})
        assert not list((tmp_path / "plain").glob("rewrites/*/shards/*"))
        with pytest.raises(CacheError, match="left out of this copy on purpose"):
            run(Cache(str(tmp_path / "plain")), painter(chat.spec))
    assert set(chat.requested.values()) == {1}


def test_a_damaged_shard_of_rewrites_is_named_and_its_texts_are_asked_again_after_the_repair(cache, tmp_path):
    with chat_server() as chat:
        run(cache, painter(chat.spec))
        (shard,) = cache.shards("rewrites/")
        path = tmp_path / "cache" / shard.path
        path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
        assert [problem.path for problem in verify(str(tmp_path / "cache")).problems] == [shard.path]
        verify(str(tmp_path / "cache"), repair=True)
        assert verify(str(tmp_path / "cache")).problems == []
        report = run(Cache(str(tmp_path / "cache")), painter(chat.spec), [*TEXTS, "new"])
        assert (report.rewritten, report.drawn) == (1, 1)  # the pictures are there: their texts need no prompt


def test_an_orphan_of_rewrites_is_committed_by_a_repair(cache, tmp_path):
    with chat_server() as chat:
        run(cache, painter(chat.spec))
    (shard,) = cache.shards("rewrites/")
    for commit in cache.commits():
        if any(one.path == shard.path for one in commit.added):
            (tmp_path / "cache" / "commits" / f"{commit.digest}.json").unlink()
    shutil.rmtree(tmp_path / "cache" / "checkpoints")
    verify(str(tmp_path / "cache"), repair=True)
    again = Cache(str(tmp_path / "cache"))
    assert read_rewrites(again, rewriters(again)[0]).num_rows == len(TEXTS)


def test_a_commit_with_rewrites_is_of_a_format_that_an_older_armada_does_not_ignore(cache):
    with chat_server() as chat:
        run(cache, painter(chat.spec))
    formats = {
        parse_commit(commit.digest, cache.log.text(commit.digest)).added[0].path.split("/")[0]: b'"format":3'
        in cache.log.text(commit.digest)
        for commit in cache.commits()
        if commit.added
    }
    assert formats == {"images": False, "features": False, "rewrites": True}
    (shard,) = cache.shards("rewrites/")
    old = commit_bytes([shard], by="", at="").replace(b'"format":3', b'"format":2')
    with pytest.raises(CacheError, match="not of format 3"):
        parse_commit(sha256(old), old)


def test_a_deterministic_teacher_is_recomputed_from_the_drawn_prompt(cache):
    prompts = []

    class Same(fakes.FakeTeacher):
        deterministic = True

        def draw(self, requests):
            for request in requests:
                prompts.append(request.prompt)
                yield self._answer(request)

    teacher = Same(open_teacher_spec())
    teacher.recipe = painter(template="<{text}>").recipe
    run(cache, teacher)
    drawn_first = sorted(prompts)
    prompts.clear()
    results = recompute(cache, 6, [teacher])
    assert [(one.asked, one.differing) for one in results[:1]] == [(6, 0)]
    assert sorted(prompts) == drawn_first == sorted(f"<{text}>" for text in TEXTS)


def open_teacher_spec():
    from teacher_cache.registry.specs import Spec

    return Spec("fake", "", {}, "fake")


@pytest.mark.parametrize("change", ["rewritten", "prompt", "rewrite_key"])
def test_a_row_that_is_not_of_its_text_is_named_and_never_drawn(cache, tmp_path, change):
    """A stranger's shard, sound by its digest, says that a text was rewritten as something else."""
    with chat_server() as chat:
        run(cache, painter(chat.spec))
        table = read_rewrites(cache, rewriters(cache)[0])
        odd = pa.array([sha256(b"other") if change == "rewrite_key" else "other"] * table.num_rows)
        table = table.set_column(table.column_names.index(change), change, odd)
        other = Cache(str(tmp_path / "other"), create=True)
        rewriter = rewriters(cache)[0]
        register_rewriter(other, rewriter)
        commit_rewrites(other, rewriter, table, Provenance(lambda: 0.0))
        assert [problem.kind for problem in verify(str(tmp_path / "other")).problems] == ["damaged"]
        with pytest.raises(CacheError, match=r"not that of its text|differs from its sha256"):
            run(other, painter(chat.spec))
        assert set(chat.requested.values()) == {1}
    assert not other.shards("images/")


def test_datasets_reads_pictures_with_their_drawn_prompt(cache, tmp_path):
    datasets = pytest.importorskip("datasets")
    teacher = painter(template="<{text}>")
    run(cache, teacher)
    folder = tmp_path / "cache" / "images" / source_of_teacher(teacher).name
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "home"))
    assert {row["json"]["prompt"]: row["json"]["drawn_prompt"] for row in rows} == {text: f"<{text}>" for text in TEXTS}
