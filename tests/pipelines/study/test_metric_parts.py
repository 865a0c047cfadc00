"""What a row adds to a metric is what leaving the row out changes: compared with the metric itself, computed again."""

import numpy as np
import pytest

from distill import load_card
from distill.cards.cards import METRICS_OF
from distill.tasks.metrics import score
from distill.tasks.splits import Split
from pipelines.study.verdicts.metric_parts import metric_parts

CARDS = {
    "classification": "glue/mnli",
    "multi-label": "world/emotions",
    "regression": "world/colour-share",
    "similarity": "world/colour-share",
    "choice": "reasoning/piqa",
    "generation": "reasoning/gsm8k",
}


def simulated(kind, count, generator, classes=3):
    """Return predictions and test rows in which the predictions know something."""
    groups = None
    if kind == "classification":
        labels = generator.integers(0, classes, count).tolist()
        predictions = generator.normal(size=(count, classes)) + np.eye(classes)[labels]
    elif kind == "multi-label":
        predictions = generator.normal(size=(count, 5))
        labels = [tuple(np.flatnonzero(row + generator.normal(size=5) > 0.5).tolist()) for row in predictions]
    elif kind == "choice":
        labels, groups = [1, 0] * (count // 2), [f"q{row // 2}" for row in range(count)]
        predictions = generator.normal(size=(count, 2)) + np.eye(2)[labels]
    elif kind == "generation":
        labels = [(str(number % 3),) for number in range(count)]
        predictions = np.array([f"so {generator.integers(3)}" for _ in range(count)])
    else:
        labels = generator.integers(0, 6, count).astype(float).tolist()  # with many ties
        predictions = (np.array(labels) + generator.normal(0, 2, count))[:, None]
    return predictions, Split([str(row) for row in range(count)], [("",)] * count, [""] * count, labels, groups)


def left_out(metric, predictions, test):
    """Return the metric without each row, by `score`."""
    rows = range(len(test))
    kept = [[other for other in rows if other != row] for row in rows]
    return np.array([score(predictions[some], [test.labels[one] for one in some], [metric])[metric] for some in kept])


@pytest.mark.parametrize(("kind", "metric"), [(kind, metric) for kind, all in METRICS_OF.items() for metric in all])
def test_the_parts_of_every_metric_are_those_of_the_jackknife(kind, metric):
    predictions, test = simulated(kind, 120, np.random.default_rng(5), 2 if metric == "f1" else 3)
    parts = metric_parts(load_card(CARDS[kind]), metric, predictions, test)
    assert parts.shape == (len(test.questions),)
    if kind == "generation":
        assert set(np.unique(parts)) <= {0.0, 1.0} or metric == "rouge_l"
        return
    whole = score(predictions, test.labels, [metric], test.groups)[metric if kind != "choice" else "accuracy"]
    assert parts.mean() == pytest.approx(whole, abs=0.02)
    if kind == "choice":
        return
    without = left_out(metric, predictions, test)
    expected = len(test) * whole - (len(test) - 1) * without
    if metric == "spearman":  # an influence, and no left-out row
        assert np.corrcoef(parts, expected)[0, 1] > 0.995
        assert parts.std() == pytest.approx(expected.std(), rel=0.04)
    else:
        np.testing.assert_allclose(parts, expected, atol=1e-6)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_the_parts_give_the_spread_of_a_correlation_over_draws_of_rows(metric):
    generator = np.random.default_rng(1)
    card, found, errors = load_card(CARDS["regression"]), [], []
    for _ in range(300):
        predictions, test = simulated("regression", 150, generator)
        found.append(score(predictions, test.labels, [metric])[metric])
        errors.append(metric_parts(card, metric, predictions, test).std() / np.sqrt(150))
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.1)


def test_constant_predictions_have_no_parts_that_are_no_number():
    for kind, all_metrics in METRICS_OF.items():
        if kind == "generation":
            continue
        predictions, test = simulated(kind, 40, np.random.default_rng(0))
        for metric in all_metrics:
            assert np.isfinite(metric_parts(load_card(CARDS[kind]), metric, np.zeros_like(predictions), test)).all()
