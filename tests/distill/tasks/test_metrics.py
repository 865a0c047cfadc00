"""Metrics against figures worked out by hand."""

import numpy as np
import pytest

from distill.tasks.metrics import final_number, question_scores, score, score_texts
from teacher_cache import ArmadaError


def test_classification_metrics_match_figures_worked_out_by_hand():
    logits = np.eye(3)[[0, 1, 1, 2]]
    found = score(logits, [0, 1, 2, 2], ["accuracy", "macro_f1"])
    assert found == pytest.approx({"accuracy": 3 / 4, "macro_f1": (1 + 2 / 3 + 2 / 3) / 3})


def test_binary_metrics_match_figures_worked_out_by_hand():
    """Three true positives, one false, one missed, one true negative."""
    found = score(np.eye(2)[[1, 1, 1, 1, 0, 0]], [1, 1, 1, 0, 1, 0], ["f1", "mcc"])
    assert found == pytest.approx({"f1": 3 / 4, "mcc": (3 * 1 - 1 * 1) / (4 * 4 * 2 * 2) ** 0.5})


def test_correlations_match_figures_worked_out_by_hand():
    scores = np.array([[1.0], [2.0], [4.0]])
    assert score(scores, [0.0, 1.0, 2.0], ["pearson", "spearman"]) == pytest.approx({"pearson": 0.98198, "spearman": 1})
    assert score(np.ones((3, 1)), [0.0, 1.0, 2.0], ["pearson"]) == {"pearson": 0.0}


def test_the_answer_to_a_question_is_its_best_choice_in_any_order_of_rows():
    logits = np.array([[0, 1.0], [0, 2.0], [5, 5.5], [3, 2.0]])
    assert score(logits, [0, 1, 0, 1], ["accuracy"], ["q1", "q1", "q2", "q2"]) == {"accuracy": 0.5}
    assert score(logits, [0, 1, 1, 0], ["accuracy"], ["q1", "q2", "q2", "q1"]) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7.", 7),
        ("#### 1,234", 1234),
        ("-2.50 dollars", -2.5),
        ("it is 12. Or 13", 13),
        ("none", None),
        ("10-3", 3),
        ("(4)-3", 3),
        ("x = -3", -3),
        ("-$5", -5),
        ("\u22123", -3),
        ("1,2,3", 3),
        ("$1,000.", 1000),
        ("it is .5", 0.5),
        ("1e3", 1000),
    ],
)
def test_the_final_number_of_a_text(text, number):
    assert final_number(text) == number


def test_a_difference_is_not_read_as_a_negative_number():
    assert score_texts(["10-3"], [("3",)], ["exact_number"]) == {"exact_number": 1.0}
    assert score_texts(["10-3"], [("-3",)], ["exact_number"]) == {"exact_number": 0.0}


def test_a_prediction_that_is_nan_is_an_error_and_no_class():
    with pytest.raises(ArmadaError, match="found NaN for 1 rows"):
        score(np.array([[0.0, 1.0], [np.nan, 0.0]]), [1, 0], ["accuracy"])


def test_the_accuracy_is_the_mean_of_the_scores_that_a_bootstrap_resamples():
    logits = np.random.default_rng(0).normal(size=(40, 2))
    groups, labels = [f"q{row // 4}" for row in range(40)], [int(row % 4 == 0) for row in range(40)]
    for asked in (None, groups):
        scores = question_scores(logits, labels, asked)
        assert len(scores) == (40 if asked is None else 10)
        assert score(logits, labels, ["accuracy"], asked)["accuracy"] == scores.mean()


def test_generated_texts_are_scored_by_their_best_reference():
    found = score_texts(["the answer is 8", "9", "?"], [("8",), ("1", "so 9"), ("3",)], ["exact_number"])
    assert found == {"exact_number": pytest.approx(2 / 3)}
    rouge = score_texts(["a b c d"], [("x", "a b y d")], ["rouge_l"])
    assert rouge == {"rouge_l": pytest.approx(3 / 4)}
