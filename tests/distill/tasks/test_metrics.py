"""Metrics against figures worked out by hand."""

import numpy as np
import pytest

from distill.tasks.metrics import final_number, score, score_texts


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
    [("so 3 + 4 = 7.", 7), ("#### 1,234", 1234), ("-2.50 dollars", -2.5), ("it is 12. Or 13", 13), ("none", None)],
)
def test_the_final_number_of_a_text(text, number):
    assert final_number(text) == number


def test_generated_texts_are_scored_by_their_best_reference():
    found = score_texts(["the answer is 8", "9", "?"], [("8",), ("1", "so 9"), ("3",)], ["exact_number"])
    assert found == {"exact_number": pytest.approx(2 / 3)}
    rouge = score_texts(["a b c d"], [("x", "a b y d")], ["rouge_l"])
    assert rouge == {"rouge_l": pytest.approx(3 / 4)}
