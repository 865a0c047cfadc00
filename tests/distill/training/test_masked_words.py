"""Masked language modelling: the pre-training without pictures that pictures have to beat."""

import pytest
import torch
from accelerate import Accelerator

from distill.dataset.tokens import tokenize
from distill.objective.masked_targets import MaskedTargets
from distill.settings import TrainSettings
from distill.students.loading import load_student
from distill.students.masked_words import MaskedWords, words_of
from distill.training.pretraining import pretrain_student
from distill.training.trainer import CheckpointConfig
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student

TEXTS = [(text,) for text in ("good plane is early", "bad phone was late", "my love", "hate")] * 8
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_student(tmp_path_factory.mktemp("student"), **STILL))


def opened(folder):
    model, tokenizer = load_student(folder, ["a", "b"], 0)
    tokens = tokenize(tokenizer, TEXTS, 16)
    return model, tokens, *words_of(tokenizer, tokens.columns["input_ids"], "tiny")


def pretrained(folder, out, epochs=8, stop_at=None):
    model, tokens, words, mask = opened(folder)

    def on_step(step):
        if step == stop_at:
            raise KeyboardInterrupt

    found = pretrain_student(
        model,
        tokens,
        MaskedTargets(len(tokens), tuple(words), mask),
        TrainSettings(batch_size=8, lr=0.03, epochs=epochs),
        data_digest="digest",
        checkpoint_config=CheckpointConfig(out / "checkpoints", save_steps=3),
        accelerator=Accelerator(cpu=True),
        on_step=on_step,
    )
    return model, [epoch.loss for epoch in found]


def test_hidden_words_are_learned_from_the_words_beside_them_and_the_task_head_stays(folder, tmp_path):
    model, losses = pretrained(folder, tmp_path, epochs=25)
    alone = torch.tensor([2.0] * 2 + [1.0] * 8).log().mean()
    assert losses[-1] < 0.7 * losses[0], losses
    assert losses[-1] < 2.0 < float(torch.tensor(11.0).log()), f"a guess among 11 words costs 2.4 nats; {alone}"
    before, after = load_student(folder, ["a", "b"], 0)[0], model
    assert before.classifier.weight.equal(after.classifier.weight)
    assert not before.get_input_embeddings().weight.equal(after.get_input_embeddings().weight)


def test_a_stopped_pre_training_goes_on_to_the_same_weights(folder, tmp_path):
    whole, _ = pretrained(folder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        pretrained(folder, tmp_path / "stopped", stop_at=8)
    stopped, _ = pretrained(folder, tmp_path / "stopped")
    for name, value in whole.state_dict().items():
        assert value.equal(stopped.state_dict()[name]), name


def test_every_row_hides_a_word_and_nothing_but_words(folder):
    model, tokens, words, mask = opened(folder)
    head = MaskedWords(model, words, mask)
    batch = tokens.batch(range(len(tokens)), torch.device("cpu"))
    torch.manual_seed(0)
    for _ in range(20):
        chosen, shown = head._hide(batch["input_ids"])
        assert chosen.any(1).all()
        assert set(batch["input_ids"][chosen].tolist()) <= set(words)
        assert shown[~chosen].equal(batch["input_ids"][~chosen])
        assert set(shown[chosen].tolist()) <= {*words, mask}


def test_a_row_counts_its_own_hidden_words_whatever_its_padding(folder):
    model, tokens, words, mask = opened(folder)
    head = MaskedWords(model, words, mask).eval()
    head.initialise(0)
    batch = tokens.batch([0, 3], torch.device("cpu"))
    torch.manual_seed(0)
    with torch.no_grad():
        summed, counted = head(model.eval(), batch).T
    assert counted.tolist()[1] == 1, "the row of one word"
    assert (summed > 0).all()


def test_a_student_without_a_mask_is_refused_by_name(tmp_path):
    save_decoder(tmp_path)
    _, tokenizer = load_student(str(tmp_path), ["a", "b"], 0)
    with pytest.raises(ArmadaError, match="tiny: expected a student whose tokenizer has a mask token"):
        words_of(tokenizer, [[5, 6]], "tiny")
