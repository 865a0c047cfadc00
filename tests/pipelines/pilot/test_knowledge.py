"""What a pilot says features know: planted knowledge is found, absent knowledge is not, however often one looks."""

import numpy as np
import pytest

from pipelines.pilot.judgement import judge_pilot
from pipelines.pilot.knowledge import known_by, labelled
from pipelines.pilot.looks import look_of, looks, rows_for

LEVEL, MARGIN = 0.05, 0.05


def task(kind, count, generator, signal, of_text=1.0):
    """Return labels, clusters, features of pictures and of texts; the first ones know the labels by `signal`."""
    pictures, text = generator.normal(size=(count, 48)), generator.normal(size=(count, 16))
    latent = signal * pictures[:, :4].sum(1) / 2 + of_text * text[:, 0] + generator.normal(size=count)
    clusters = [str(row) for row in range(count)]
    if kind == "regression":
        return 3 * latent - 70, clusters, pictures, text
    if kind == "choice":
        right = (latent[0::2] < latent[1::2]).astype(int)
        labels = np.stack([1 - right, right], 1).reshape(-1)
        return labels, [str(row // 2) for row in range(count)], pictures, text
    return (latent > 0.3).astype(int) + (latent > 1.5), clusters, pictures, text


@pytest.mark.parametrize("kind", ["classification", "choice", "regression"])
def test_planted_knowledge_is_found_and_absent_knowledge_is_not(kind):
    generator = np.random.default_rng(0)
    count = 1000 if kind == "choice" else 500
    look = look_of(LEVEL, 500)
    labels, clusters, pictures, text = task(kind, count, generator, 1.5)
    rows = labelled(kind, labels, clusters)
    found = judge_pilot(rows, pictures, text, look, level=LEVEL, margin=MARGIN)
    assert (found.worth, found.both_over_text.low > 0, found.answers) == ("worth it", True, 500)
    assert found.pictures > found.shuffled + 0.05
    nothing = judge_pilot(rows, generator.normal(size=pictures.shape), text, look, level=LEVEL, margin=MARGIN)
    assert nothing.worth != "worth it"
    assert abs(nothing.pictures - nothing.shuffled) < 0.08
    assert nothing.pictures_over_text.mean < 0


def test_rows_of_one_prompt_are_never_both_learnt_from_and_predicted():
    generator = np.random.default_rng(1)
    count = 100
    pictures = np.repeat(generator.normal(size=(count, 400)), 2, axis=0)  # each picture serves two rows
    labels = np.repeat(generator.normal(size=count), 2)  # which nothing predicts but the other row
    together = labelled("regression", labels, [str(row // 2) for row in range(2 * count)])
    apart = labelled("regression", labels, [str(row) for row in range(2 * count)])
    assert known_by([pictures], apart).scores.mean() > 0.5  # what leaks if they are apart
    assert known_by([pictures], together).scores.mean() < 0.1


def test_shuffled_choices_have_one_right_choice_in_each_question():
    generator = np.random.default_rng(2)
    clusters = [str(row // 4) for row in range(40)]
    rows = labelled("choice", [int(row % 4 == 1) for row in range(40)], clusters)
    permuted = rows.permuted(generator)[:, 1]
    assert permuted.reshape(10, 4).sum(1).tolist() == [1.0] * 10
    assert permuted.tolist() != rows.targets[:, 1].tolist()


def test_constant_features_and_two_labels_of_one_kind_are_no_error():
    labels = [0] * 99 + [1]
    rows = labelled("classification", labels, [str(row) for row in range(100)])
    found = judge_pilot(rows, np.ones((100, 4)), None, look_of(LEVEL, 100), level=LEVEL, margin=MARGIN)
    assert (found.worth, found.text) == ("not worth it", None)


def test_looks_spend_the_level_once_and_a_later_look_keeps_the_earlier_ones():
    every = looks(LEVEL, 100_000)
    assert sum(look.level for look in every) < LEVEL
    assert [look.rows for look in every[:6]] == [100, 200, 300, 500, 700, 1000]
    assert looks(LEVEL, 300) == every[:3]
    assert look_of(LEVEL, 99) is None
    assert (look_of(LEVEL, 100).rows, look_of(LEVEL, 499).rows) == (100, 300)


def test_the_advice_how_many_more_rows_to_draw_is_a_look_at_which_the_interval_is_narrow_enough():
    look = look_of(LEVEL, 300)
    wanted = rows_for(LEVEL, 0.08, look, 0.04)
    assert wanted in {one.rows for one in looks(LEVEL, 5000)}
    assert wanted >= 4 * 300
    assert rows_for(LEVEL, 0.08, look, 1e-6) is None


def false_positives(pilots):
    """Return the share of pilots without any knowledge that say "worth it" at one of three looks."""
    generator = np.random.default_rng(3)
    wrong = 0
    for number in range(pilots):
        kind = ("classification", "choice", "regression")[number % 3]
        labels, clusters, _, _ = task(kind, 600 if kind == "choice" else 300, generator, 0.0)
        pictures = generator.normal(size=(len(labels), 24)) @ generator.normal(size=(24, 24)) + 5
        for look in looks(LEVEL, 300):
            count = look.rows * (2 if kind == "choice" else 1)
            rows = labelled(kind, labels[:count], clusters[:count])
            if judge_pilot(rows, pictures[:count], None, look, level=LEVEL, margin=MARGIN).worth == "worth it":
                wrong += 1
                break
    return wrong / pilots


def test_one_may_look_as_often_as_one_likes():
    assert false_positives(12) <= 0.05 + 2 * (0.05 * 0.95 / 12) ** 0.5


@pytest.mark.slow
@pytest.mark.timeout(3600)  # three minutes of one core, and longer on a machine with other work
def test_of_a_thousand_pilots_with_peeking_at_most_five_in_a_hundred_are_wrong():
    assert false_positives(1000) <= 0.05
