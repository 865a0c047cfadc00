"""Intervals that count seeds and test rows hold their level in simulated studies, whichever of the two makes noise."""

import numpy as np
import pytest

from distill import load_card, score
from pipelines.study.statistics import holm_levels, paired, verdicts
from pipelines.study.verdicts.chance import chance_of
from pipelines.study.verdicts.clusters import clusters_of, clusters_of_split, independent
from pipelines.study.verdicts.metric_parts import metric_parts
from tests.pipelines.study.test_metric_parts import Split

LEVEL, MARGIN = 0.05, 0.01
KINDS = ("seeds", "rows", "both", "clusters", "pairs of objects")


def drawn_clusters(kind, rows, generator):
    """Return the object or objects of each row, of sizes that differ: (rows, 1 or 2)."""
    count = max(12, rows // 8)
    weights = generator.gamma(1.5, 1, count)
    shape = (rows, 2 if kind == "pairs of objects" else 1)
    return generator.choice(count, shape, p=weights / weights.sum())


def simulated(kind, studies, seeds, rows, objects, generator, others=2):
    """Return differences (studies, others, seeds, rows) of right answers, of an arm and others that are as good.

    A student is right where its row's ease, its seed's skill, what the arm makes of the row or its objects, and chance
    are above zero together. What an arm makes of a row is the same with every seed.
    """

    def noise(spread, *shape):
        return spread * generator.standard_normal((studies, 1 + others, *shape), np.float32)

    skill = 1.5 * generator.standard_normal((studies, 1, 1, rows), np.float32) + noise(0.7, seeds, rows)
    if kind in ("seeds", "both"):
        skill += noise(0.2, seeds, 1)
    if kind == "rows" or kind == "both":
        skill += noise(0.9, 1, rows)
    if kind in ("clusters", "pairs of objects"):
        of_object = noise(0.9, 1, objects.max() + 1)
        skill += noise(0.1, seeds, 1) + sum(of_object[..., column] for column in objects.T)
    right = (skill > 0).astype(np.float32)
    return right[:, :1] - right[:, 1:]


def rates(kind, studies, seeds, rows, number=0, part=100):
    """Return the shares of comparisons whose interval misses the true zero: over seeds alone, over seeds and rows, and
    of either; and the share of studies that say "helped" by Holm's procedure."""
    generator = np.random.default_rng([number, seeds, rows, KINDS.index(kind)])
    missed, helped, done = np.zeros(3), 0.0, 0
    while done < studies:
        objects = drawn_clusters(kind, rows, generator)
        clusters = clusters_of(objects.tolist()) if kind in KINDS[3:] else independent(rows)
        parts = simulated(kind, min(part, studies - done), seeds, rows, objects, generator)
        seen, chance = paired(parts.mean(-1)), chance_of(parts.mean(-1), parts, clusters)
        p = np.maximum(seen.p, chance.p)
        missed += [(one <= LEVEL).mean(1).sum() for one in (seen.p, chance.p, p)]
        levels = holm_levels(p, LEVEL)
        half = np.maximum(seen.half_width(levels), chance.half_width(levels))
        helped += (verdicts(chance.mean - half, chance.mean + half, MARGIN, 5) == "helped").sum()
        done += len(parts)
    return *(missed / studies), helped / studies


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seeds", "rows"), [(3, 100), (5, 400)])
def test_few_simulated_studies_find_what_is_not_there(kind, seeds, rows):
    studies = 200
    _, _, either, helped = rates(kind, studies, seeds, rows)
    assert either <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / studies) ** 0.5
    assert helped <= LEVEL / 2 + 2 * (LEVEL / 2 / studies) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seeds", "rows"), [(3, 100), (3, 1000), (4, 400), (5, 100), (5, 1000), (5, 4000)])
def test_of_a_thousand_studies_at_most_five_in_a_hundred_find_what_is_not_there(kind, seeds, rows):
    over_seeds, over_both, either, helped = rates(kind, 1000, seeds, rows, part=25)
    print(f"{kind}, {seeds} seeds, {rows} rows: {over_seeds:.3f} {over_both:.3f} {either:.3f}; helped {helped:.3f}")
    assert either <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / 1000) ** 0.5
    assert helped <= LEVEL


def rate_of(metric, studies, seeds=5, rows=200, number=4):
    """Return the share of comparisons that miss a true zero, of a metric that is no mean over rows."""
    generator, missed = np.random.default_rng(number), 0
    kind, card = ("regression", "world/colour-share") if metric == "spearman" else ("classification", "glue/mnli")
    for _ in range(studies):
        labels = generator.integers(0, 3, rows)
        test = Split([""] * rows, [("",)] * rows, [""] * rows, labels.tolist())
        of_row = generator.normal(size=(2, 1, rows, 3)) + np.eye(3)[labels]  # what each of two arms makes of a row
        predictions = (
            of_row + generator.normal(0, 0.5, (2, seeds, rows, 3)) + generator.normal(0, 0.05, (2, seeds, 1, 3))
        )
        if kind == "regression":
            predictions = (predictions * [0, 1, 2]).sum(-1, keepdims=True)
        every = np.reshape(predictions, (-1, rows, predictions.shape[-1]))
        values = np.array([score(one, test.labels, [metric])[metric] for one in every]).reshape(2, seeds)
        parts = np.array([metric_parts(load_card(card), metric, one, test) for one in every]).reshape(2, seeds, rows)
        missed += chance_of(values[0] - values[1], parts[0] - parts[1], independent(rows)).p <= LEVEL
    return missed / studies


def test_a_metric_that_is_no_mean_holds_the_level_too():
    assert rate_of("spearman", 20, rows=100, number=0) <= 0.15  # of 1000, 41 miss


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["macro_f1", "mcc", "spearman"])
def test_of_a_thousand_studies_of_a_metric_that_is_no_mean_at_most_five_in_a_hundred_are_wrong(metric):
    rate = rate_of(metric, 1000)
    print(f"{metric}: {rate:.3f}")
    assert rate <= LEVEL + 2 * (LEVEL * (1 - LEVEL) / 1000) ** 0.5


def test_the_rule_over_seeds_alone_takes_the_luck_of_the_rows_for_help():
    assert rates("rows", 200, 5, 400)[0] > 0.15
    assert rates("clusters", 200, 5, 400)[0] > 0.3


def test_a_real_difference_is_found():
    generator = np.random.default_rng(1)
    parts = simulated("both", 100, 5, 1000, None, generator) + 0.0
    parts[:, :, :, :150] = 1.0  # the arm is right about a seventh of the rows that the others get wrong
    chance = chance_of(parts.mean(-1), parts, independent(1000))
    assert ((chance.mean - chance.half_width(LEVEL)) > 0).mean() > 0.9


def test_the_variance_of_one_kind_of_chance_is_the_textbooks():
    generator = np.random.default_rng(2)
    of_seed = np.repeat(generator.normal(size=(5, 1)), 50, 1)
    chance = chance_of(of_seed.mean(-1), of_seed, independent(50))
    assert chance.both == pytest.approx(of_seed[:, 0].var(ddof=1) / 5)
    assert chance.degrees == pytest.approx(4)
    of_row = np.repeat(generator.normal(size=(1, 50)), 5, 0)
    chance = chance_of(of_row.mean(-1), of_row, independent(50))
    assert chance.both == pytest.approx(of_row[0].var(ddof=1) / 50) == pytest.approx(chance.questions)
    by_cluster = np.repeat(generator.normal(size=10), 5)[None].repeat(5, 0)
    clusters = clusters_of([[row // 5] for row in range(50)])
    chance = chance_of(by_cluster.mean(-1), by_cluster, clusters)
    assert chance.both == pytest.approx(by_cluster[0, ::5].var(ddof=1) / 10)
    assert clusters.degrees == pytest.approx(9)


def test_nothing_can_be_told_with_one_seed_or_with_one_cluster():
    parts = np.random.default_rng(3).normal(1, 0.1, (5, 40))
    alone = chance_of(parts[:1].mean(-1), parts[:1], independent(40))
    assert (alone.p, alone.half_width(0.05)) == (1, np.inf)
    same = chance_of(parts.mean(-1), parts, clusters_of([["the same"]] * 40))
    assert (same.p, same.half_width(0.05), same.question_half_width(0.05)) == (1, np.inf, np.inf)


def test_pairs_of_questions_that_share_an_object_count_once():
    objects = [("car", "boat"), ("boat", "car"), ("car", "horse"), ("pond", "lake")]
    clusters, parts = clusters_of(objects), np.array([3.0, -1.0, 2.0, 5.0])
    shared = np.array([[len(set(one) & set(other)) > 0 for one in objects] for other in objects])
    assert clusters.squares(parts) / clusters.correction == pytest.approx(parts @ shared @ parts)
    assert clusters.repeated == 2


def split_of(texts, groups=None):
    count = len(texts)
    return Split([str(row) for row in range(count)], texts, [""] * count, [0] * count, groups)


def test_repeated_things_are_clusters_and_the_colours_of_a_scale_are_not():
    things = [(f"thing {number}", colour) for number in range(30) for colour in ("red", "green", "blue")]
    assert clusters_of_split(split_of(things)).repeated == 30
    pairs = [(f"thing {number}", f"thing {(number * 7 + 1) % 40}") for number in range(40)]
    assert clusters_of_split(split_of(pairs)).repeated == 40
    assert clusters_of_split(split_of([(f"text {number}",) for number in range(40)])).repeated == 0


def test_a_question_with_choices_is_one_unit_however_many_texts_it_shares():
    texts = [(f"question {number // 2}", f"{number % 2}") for number in range(60)]
    clusters = clusters_of_split(split_of(texts, [f"q{number // 2}" for number in range(60)]))
    assert (clusters.questions, clusters.repeated) == (30, 0)
