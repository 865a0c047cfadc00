"""Predictions come in the order of the rows."""

import numpy as np
import torch

from distill.dataset.tokens import tokenize
from distill.students.evaluation import predict
from distill.students.loading import load_student
from tests.distill.tiny import save_student, split


def test_predictions_come_in_the_order_of_the_rows(tmp_path):
    model, tokenizer = load_student(str(save_student(tmp_path)), ["a", "b", "c"], 0)
    rows = split(21)
    tokens = tokenize(tokenizer, rows.texts, 128)
    logits = predict(model, tokens, torch.device("cpu"), batch_size=4)
    model.eval()
    for row in (0, 7, 20):
        with torch.inference_mode():
            alone = model(**tokens.batch([row], torch.device("cpu"))).logits[0]
        assert np.allclose(logits[row], alone.numpy(), atol=1e-5)
