"""The digest of a view is pinned to its digits, since runs and aligners are named by it; lazy and eager joins agree."""

import hashlib

import numpy as np
import pytest

from distill.dataset.join import _blocks, _digest, _means, data_digest, join, join_lazily
from distill.dataset.mending import Mending
from distill.tasks.splits import Split
from teacher_cache import ArmadaError, BuildOptions, CoverageError, build, choose, open_features
from tests import fakes
from tests.distill.tiny import split

ROWS = split(12)
TWO = Split(["a" * 64, "b" * 64], [("x",), ("y",)], ["x", "y"], [1, 0])
VALUES = np.arange(8, dtype=np.float16).reshape(2, 4)


@pytest.fixture
def opened(cache):
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder())
    return cache, open_features(cache, *choose(cache, None, None))


def test_digests_are_pinned_to_their_digits():
    assert data_digest(TWO) == "08f1d3f7a856f83e701b276a319aaaa1bbb99174f436c7a9cb2686851d18a2b2"
    assert (
        _digest(TWO, ["p", "q"], VALUES, [VALUES]) == "0a30267c454acdb4906e2df3d45624937fc0a7cc78a473566a259b30d1d51823"
    )
    assert (
        _digest(TWO, ["p", "q", "r", "s"], VALUES, [VALUES], "draw")
        == "0b8fccfd141ba62a73f9ead634ee3e719d754444b14e7862eb7627b77c64ae22"
    )


@pytest.mark.parametrize(("combine", "between"), [("mean", "+"), ("draw", " ")])
def test_the_digest_of_rows_with_several_pictures_names_how_they_are_combined_and_each_picture(cache, combine, between):
    prompts = [ROWS.prompts[0], *ROWS.prompts[:11]]  # the first two rows have the same pictures
    rows = Split(ROWS.ids, ROWS.texts, prompts, ROWS.labels)
    build(cache, prompts, fakes.teacher(), fakes.encoder(), BuildOptions(samples=3))
    features = open_features(cache, *choose(cache, None, None))
    view = join(rows, cache, features, samples=3, combine=combine)
    pictures = [features.pictures_of(features.rows_of(prompts, sample)) for sample in range(3)]
    own = [between.join(pictures_of_row) for pictures_of_row in zip(*pictures, strict=True)]
    used = view.features if combine == "mean" else view.features.features
    text = f"armada-view/1\n{combine}\n"
    text += "".join(f"{row} {label} {of}\n" for row, label, of in zip(rows.ids, rows.labels, own, strict=True))
    text += f"{used.dtype} {used.shape}\n"
    assert view.digest == hashlib.sha256(text.encode() + used.tobytes()).hexdigest()
    numbers = view.pictures.reshape(12, -1)
    assert numbers.shape[1] == (1 if combine == "mean" else 3)
    assert np.array_equal(numbers[0], numbers[1])
    assert len(np.unique(numbers, axis=0)) == 11
    assert (view.split, view.coverage.found) == (rows, 12)
    assert combine == "mean" or view.features.key == view.digest  # the pictures of an epoch follow from the data
    moved = join(rows, cache, features, samples=3, combine=combine, control="shuffled").pictures.reshape(12, -1)
    assert sorted(moved.tolist()) == sorted(numbers.tolist())  # a row's pictures stay together
    assert not np.array_equal(moved, numbers)


def test_a_digest_does_not_depend_on_how_features_are_cut_into_blocks():
    whole = _digest(TWO, ["p", "q"], VALUES, [VALUES])
    assert _digest(TWO, ["p", "q"], VALUES, [VALUES[:1], VALUES[1:]]) == whole
    assert _digest(TWO, ["p", "q"], VALUES, [np.asfortranarray(VALUES)]) == whole
    others = (
        _digest(TWO, ["q", "p"], VALUES, [VALUES]),
        _digest(TWO, ["p", "q"], VALUES, [VALUES[::-1]]),
        _digest(TWO, ["p", "q"], VALUES.astype(np.float32), [VALUES]),
        _digest(TWO, ["p", "q"], VALUES.reshape(1, 8), [VALUES]),
        _digest(TWO, ["p", "q"], VALUES, [VALUES], "mean"),
        _digest(TWO, ["p", "q"], VALUES, [VALUES], "draw"),
    )
    assert len({whole, *others}) == 7


def test_the_digest_of_rows_depends_on_ids_labels_and_order():
    digests = {data_digest(TWO), data_digest(TWO.take([1, 0])), data_digest(TWO.take([0]))}
    digests.add(data_digest(Split(TWO.ids, TWO.texts, TWO.prompts, [1, 1])))
    assert len(digests) == 4
    assert data_digest(Split(TWO.ids, [("z",), ("z",)], ["z", "z"], TWO.labels)) == data_digest(TWO)


def test_blocks_are_at_least_one_and_have_every_row_once():
    assert [len(part) for part in _blocks(np.arange(0))] == [0]
    assert [len(part) for part in _blocks(np.arange(8192))] == [8192]
    assert [len(part) for part in _blocks(np.arange(8193))] == [8192, 1]
    assert [part.tolist() for part in _blocks(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


def test_means_are_computed_per_row_in_float32_and_stored_in_the_features_own_type():
    found = _means(np.array([[60000], [60000], [1], [2]], np.float16), 2)
    assert (found.tolist(), found.dtype) == ([[60000 // 32 * 32], [1.5]], np.float16)


def test_what_is_not_said_is_one_sample_the_first_seed_and_no_control(opened):
    cache, features = opened
    plain, shuffled = join(ROWS, cache, features), join(ROWS, cache, features, control="shuffled")
    assert plain.digest == join(ROWS, cache, features, samples=1, combine="draw", seed=5).digest
    assert shuffled.digest == join(ROWS, cache, features, control="shuffled", seed=0).digest
    lazy = join_lazily(ROWS, cache, features, control="shuffled")
    assert lazy.digest == join_lazily(ROWS, cache, features, control="shuffled", seed=0).digest
    assert lazy.digest != join_lazily(ROWS, cache, features, control="shuffled", seed=1).digest
    with pytest.raises(CoverageError):
        join_lazily(split(13), cache, features)


@pytest.mark.parametrize("control", [None, "shuffled"])
def test_a_lazy_join_has_the_rows_pictures_and_digest_of_an_eager_one(opened, control):
    cache, features = opened
    eager, lazy = (way(ROWS, cache, features, control=control, seed=3) for way in (join, join_lazily))
    assert np.array_equal(lazy.features.take(np.arange(12)), eager.features)
    assert lazy.pictures.tolist() == eager.pictures.tolist()
    assert (lazy.digest, lazy.split, lazy.coverage) == (eager.digest, eager.split, eager.coverage)


def test_a_lazy_join_refuses_a_control_that_needs_all_features(opened):
    cache, features = opened
    with pytest.raises(
        ArmadaError, match="--control noise: it needs all features at once; leave out --max-local-bytes"
    ):
        join_lazily(ROWS, cache, features, control="noise")


def test_at_most_three_prompts_are_shown_and_every_reason_is_counted(cache):
    prompts = [*ROWS.prompts[:7], *(f"[refused] {number}" for number in range(4)), "[permanent] x"]
    rows = Split(ROWS.ids, ROWS.texts, prompts, ROWS.labels)
    build(cache, prompts, fakes.teacher(), fakes.encoder())
    features = open_features(cache, *choose(cache, None, None))
    coverage = join(rows, cache, features, drop_missing=True).coverage
    assert coverage.examples == ("[refused] 0", "[refused] 1", "[refused] 2")
    assert coverage.failures == {"refused": 4, "permanent": 1}
    assert (coverage.rows, coverage.found, coverage.missing, coverage.broken, coverage.samples) == (12, 7, 5, 0, 1)
    with pytest.raises(CoverageError) as caught:
        join(rows, cache, features)
    assert str(caught.value).endswith("\nor leave these rows out with: --missing drop")
    with pytest.raises(CoverageError) as caught:
        join(rows.take(range(7, 12)), cache, features)
    assert "leave these rows out" not in str(caught.value)


def test_rows_without_a_label_each_have_no_digest():
    short = Split(TWO.ids, TWO.texts, TWO.prompts, [1])
    with pytest.raises(ValueError, match="zip"):
        data_digest(short)
    with pytest.raises(ValueError, match="zip"):
        _digest(short, ["p", "q"], VALUES, [VALUES])


def test_each_picture_of_a_single_row_is_in_its_digest():
    one = TWO.take([0])
    assert _digest(one, ["p", "q"], VALUES, [VALUES]) != _digest(one, ["p", "r"], VALUES, [VALUES])


def test_a_control_that_keeps_the_features_reads_them_lazily_in_their_order(opened):
    cache, features = opened
    lazy = join_lazily(ROWS, cache, features, control="frozen-aligner")
    assert np.array_equal(lazy.features.take(np.arange(12)), join(ROWS, cache, features).features)


@pytest.mark.parametrize("way", [join, join_lazily])
def test_what_can_be_done_about_missing_rows_is_said_for_one_row_too(opened, way):
    cache, features = opened
    rows = Split(["a", "b"], [("x",), ("y",)], [ROWS.prompts[0], "never drawn"], [0, 1])
    with pytest.raises(CoverageError) as caught:
        way(rows, cache, features)
    assert str(caught.value).endswith("'never drawn'\nor leave these rows out with: --missing drop")
    with pytest.raises(CoverageError, match=r"armada cache build rows\.csv"):
        way(rows, cache, features, mend=Mending(("rows.csv",), "T", "E", "c"))
