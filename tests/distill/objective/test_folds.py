"""Folds: rows that belong together stay together, whatever their order."""

import numpy as np
import pytest

from distill.objective.folds import folds_of
from distill.tasks.splits import Split
from teacher_cache import ArmadaError
from tests.distill.tiny import split


def test_folds_are_of_equal_size_and_do_not_depend_on_the_order_of_rows():
    rows = split(43)
    folds = folds_of(rows, 5)
    assert sorted(np.bincount(folds)) == [8, 8, 9, 9, 9]
    order = np.random.default_rng(0).permutation(43)
    np.testing.assert_array_equal(folds_of(rows.take(order.tolist()), 5), folds[order])


def test_choices_of_a_question_and_rows_of_one_text_or_prompt_are_in_one_fold():
    ids = [str(row) for row in range(60)]
    texts = [(f"text {row // 2}",) if row < 20 else (f"text {row}",) for row in range(60)]
    prompts = [f"prompt {row // 2}" if 20 <= row < 40 else f"prompt {row}" for row in range(60)]
    groups = [f"question {row // 2}" if row >= 40 else f"question {row}" for row in range(60)]
    folds = folds_of(Split(ids, texts, prompts, [0] * 60, groups), 5)
    assert (folds[::2] == folds[1::2]).all()
    assert len(set(folds.tolist())) == 5


def test_rows_that_all_belong_together_are_an_error_and_few_units_give_few_folds():
    one = Split(["a", "b"], [("x",), ("y",)], ["same", "same"], [0, 1])
    with pytest.raises(ArmadaError, match=r"--folds 5: expected training rows of at least 2 different texts"):
        folds_of(one, 5)
    assert folds_of(one, 1).tolist() == [0, 0]
    assert sorted(folds_of(split(3), 5).tolist()) == [0, 1, 2]
