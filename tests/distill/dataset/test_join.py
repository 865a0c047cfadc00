"""The join fails closed, and the digest of a view depends on everything that training uses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.dataset.join import join, join_lazily
from distill.dataset.mending import Mending
from teacher_cache import CacheError, CoverageError, build, choose, open_features
from teacher_cache.reading.key_table import row_sums
from teacher_cache.reading.mapped_rows import MappedRows
from tests import fakes
from tests.distill.tiny import split

ROWS = split(12)
MENDING = Mending(("rows.csv", "--task", "t"), "T", "E", "c")


@pytest.fixture
def features(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder())
    return open_features(cache, *choose(cache, None, None))


def test_each_row_is_joined_with_its_own_feature(cache, features):
    view = join(ROWS, cache, features)
    backwards = join(ROWS.take(range(11, -1, -1)), cache, features)
    assert np.array_equal(view.features, backwards.features[::-1])
    assert view.coverage.is_full


def test_a_row_added_after_the_build_stops_with_a_coverage_report(cache, features):
    with pytest.raises(CoverageError) as caught:
        join(split(13), cache, features, mend=MENDING)
    message = str(caught.value)
    assert "12 of 13 training rows have a feature" in message
    assert "missing: 1" in message
    assert split(13).prompts[-1] in message
    assert (
        "complete the cache with: armada cache build rows.csv --task t --teacher T --encoder E --cache c\n" in message
    )


def test_a_removed_feature_stops(cache, features):
    (path,) = Path(str(cache.store)).glob("features/*/*/shards/*")
    path.unlink()
    with pytest.raises(CoverageError, match="0 of 12"):
        join(ROWS, cache, open_features(cache, *choose(cache, None, None)), mend=MENDING)


def test_a_row_whose_teacher_failed_is_mended_by_a_retry_for_its_reason(cache, features):
    build(cache, ["[refused] x", "[permanent] y"], fakes.teacher(), fakes.encoder())
    rows = type(ROWS)(["a", "b"], [("x",), ("y",)], ["[refused] x", "[permanent] y"], [0, 1])
    with pytest.raises(CoverageError) as caught:
        join(rows, cache, features, samples=2, mend=replace(MENDING, samples=2, cache="my cache"))
    assert "--cache 'my cache' --samples 2; armada cache retry 'my cache' --teacher T --encoder E" in str(caught.value)
    assert str(caught.value).endswith("--reason permanent --reason refused")


def test_drop_keeps_only_the_rows_with_a_feature(cache, features):
    view = join(split(13), cache, features, drop_missing=True)
    assert (len(view.split), view.coverage.missing) == (12, 1)
    assert view.digest == join(ROWS, cache, features).digest


def test_drop_leaves_no_question_without_some_of_its_choices(cache, features):
    asked = split(13)
    questions = replace(asked, groups=[f"q{row // 2}" for row in range(11)] + ["q5", "q0"])
    view = join(questions, cache, features, drop_missing=True)
    assert len(view.split) == 10  # the last row has no feature, and two others ask the same question
    assert "q0" not in view.split.groups
    assert view.coverage.broken == 0


def test_drop_still_stops_if_no_row_has_a_feature(cache, features):
    other = split(30).take(range(20, 30))
    with pytest.raises(CoverageError, match="0 of 10"):
        join(other, cache, features, drop_missing=True)


def test_rows_that_share_a_picture_are_counted(cache, features):
    twice = type(ROWS)(ROWS.ids, ROWS.texts, [ROWS.prompts[0], *ROWS.prompts[:-1]], ROWS.labels)
    coverage = join(twice, cache, features).coverage
    assert (coverage.found, coverage.duplicates) == (12, 1)
    assert "sharing a feature with an earlier row: 1" in coverage.in_words()


@pytest.mark.parametrize("max_local_bytes", [None, 100])
def test_a_lazy_join_fails_closed_too(cache, max_local_bytes):
    prompts = [*ROWS.prompts[:11], "[refused] x"]
    rows = type(ROWS)(ROWS.ids, ROWS.texts, prompts, ROWS.labels)
    build(cache, prompts, fakes.teacher(), fakes.encoder())
    features = open_features(cache, *choose(cache, None, None), max_local_bytes=max_local_bytes)
    with pytest.raises(CoverageError, match=r"11 of 12 .*\n  missing: 1 \(the teacher failed: refused 1\)"):
        join_lazily(rows, cache, features, mend=MENDING)
    assert join_lazily(rows, cache, features, drop_missing=True).features.shape == (11, 8)


def test_the_report_gives_the_reasons_of_failures(cache):
    rows = split(3)
    prompts = [rows.prompts[0], "[refused] x", "[refused] y"]
    rows = type(rows)(rows.ids, rows.texts, prompts, rows.labels)
    build(cache, prompts, fakes.teacher(), fakes.encoder())
    with pytest.raises(CoverageError, match=r"missing: 2 \(the teacher failed: refused 2\)"):
        join(rows, cache, open_features(cache, *choose(cache, None, None)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_feature_that_is_not_sound_counts_as_missing(cache, features, value):

    matrix = np.array(features.matrix)
    matrix[3] = value
    broken = replace(features, rows=MappedRows(matrix, row_sums(matrix)))
    with pytest.raises(CoverageError, match="not finite or zero: 1") as caught:
        join(ROWS, cache, broken, mend=MENDING)
    assert str(caught.value).splitlines()[-2:] == [
        "no build replaces a feature that is not finite or zero: use another encoder",
        "or leave these rows out with: --missing drop",
    ]
    assert "armada cache build" not in str(caught.value)


def test_the_digest_depends_on_rows_labels_features_and_control(cache, features):
    relabelled = type(ROWS)(ROWS.ids, ROWS.texts, ROWS.prompts, [2, *ROWS.labels[1:]])
    digests = {
        join(ROWS, cache, features).digest,
        join(ROWS.first(11), cache, features).digest,
        join(relabelled, cache, features).digest,
        join(ROWS, cache, features, control="shuffled", seed=0).digest,
        join(ROWS, cache, features, control="shuffled", seed=1).digest,
    }
    assert len(digests) == 5


def test_a_colleague_who_adds_prompts_does_not_change_the_digest(cache, features):
    before = join(ROWS, cache, features).digest
    build(cache, ["something else"], fakes.teacher(), fakes.encoder())
    assert join(ROWS, cache, open_features(cache, *choose(cache, None, None))).digest == before


def test_shuffled_moves_features_and_loses_none(cache, features):
    plain, shuffled = join(ROWS, cache, features), join(ROWS, cache, features, control="shuffled", seed=0)
    assert not np.array_equal(plain.features, shuffled.features)
    assert sorted(map(tuple, plain.features)) == sorted(map(tuple, shuffled.features))


def test_a_matrix_damaged_on_this_machine_is_refused(cache, features):
    (path,) = cache.derived_folder.glob("matrices/*/features.npy")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheError, match="rows differ from their checksums"):
        join(ROWS, cache, open_features(cache, *choose(cache, None, None)))
