"""Embedding students: pairs with a score, distilled on the pooled embedding, read by stock sentence-transformers."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from distill.cards.cards import Card
from distill.objective.aligner import train_aligner
from distill.objective.targets import TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.embedding import cosine_scale, embed, pooled_and_cosines, tokenize_pairs
from distill.students.export import export_student, model_card
from distill.students.loading import StudentSpec
from distill.students.pooling import pooled_and_logits, pooled_width
from distill.students.similarity import load_embedder
from distill.students.task_model import finish_task_model, open_task_model, with_length
from distill.tasks.splits import Split
from distill.training.trainer import CheckpointConfig, train_student
from teacher_cache import ArmadaError
from tests.distill.tiny import WORDS, save_decoder, save_student

CPU = torch.device("cpu")
CARD = Card.model_validate(
    {
        "name": "pairs",
        "title": "pairs",
        "type": "similarity",
        "source": {"hub": "nobody/pairs", "licence": "none"},
        "text": ["{one}", "{two}"],
        "label": "score",
        "prompt": "{one} {two}",
        "split": {"train": 80, "validation": 10, "test": 10},
        "metrics": ["spearman", "pearson"],
    }
)
ENCODERS = ("bert", "mpnet", "modernbert")
KINDS = (*ENCODERS, "llama", "gpt2", "opt", "t5")


def pairs(count=48):
    """Pairs of two or three words, with a score from 0 to 5 for the words that they share."""
    texts = [(f"{WORDS[row % 8]} plane", f"{WORDS[(row * row) % 8]} {'plane' if row % 3 else 'late very'}")
             for row in range(count)]  # fmt: skip
    labels = [2.5 * len(set(one.split()) & set(two.split())) for one, two in texts]
    return Split([str(row) for row in range(count)], texts, [" ".join(pair) for pair in texts], labels)


def save(kind, folder):
    return str((save_student if kind in ENCODERS else save_decoder)(folder, kind))


def train(path, folder, distilled=True, **changes):
    """A trained and exported embedding student, and its metrics on its training rows."""
    split = pairs()
    settings = TrainSettings(**{"epochs": 8, "batch_size": 8, "lr": 1e-2, "warmup": 0.0, "max_length": 16, **changes})
    task_model = open_task_model(path if isinstance(path, StudentSpec) else StudentSpec(path), CARD, split, settings)
    targets = None
    if distilled:
        aligner = AlignerSettings(width=8, batch_size=8, lr=1e-2)
        features = torch.randn(len(split), 12, generator=torch.Generator().manual_seed(0)).half()
        states = train_aligner(features, torch.tensor(task_model.targets), 1, settings.epochs, aligner, 0, "key")
        targets = TeacherTargets(features, states, 8)
    epochs = train_student(
        task_model.model, task_model.tokens, task_model.targets, settings,
        data_digest="digest", teacher_targets=targets, checkpoint_config=CheckpointConfig(folder / "checkpoints"),
        accelerator=Accelerator(cpu=True),
    )  # fmt: skip
    finish_task_model(task_model, CPU)
    words = model_card({"task": "pairs"}, task_model.pipeline)
    export_student(task_model.model, task_model.tokenizer, folder / "export", words, task_model.files)
    return task_model, epochs


def stock_vectors(folder, texts):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)


def our_vectors(task_model, texts):
    encoded = task_model.tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.inference_mode():
        return torch.nn.functional.normalize(embed(task_model.model.eval(), encoded)).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_student_has_the_same_vectors_in_stock_sentence_transformers(tmp_path, kind):
    task_model, epochs = train(save(kind, tmp_path / "start"), tmp_path, epochs=1)
    assert epochs[0].manifold is not None
    texts = ["good", "bad plane late", "my very good plane is late", "good plane " * 20]
    vectors = stock_vectors(tmp_path / "export", texts)
    assert np.allclose(vectors, our_vectors(task_model, texts), atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.shape == (4, pooled_width(task_model.model))


def test_sentence_transformers_finds_the_similarity_and_the_length_limit_of_the_export(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    task_model, _ = train(save("bert", tmp_path / "start"), tmp_path, epochs=1)
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "export"), device="cpu")
    assert model.similarity_fn_name == "cosine"
    assert model.max_seq_length == 16
    split = pairs(6)
    one, two = (model.encode([texts[place] for texts in split.texts], show_progress_bar=False) for place in (0, 1))
    cosines = model.similarity_pairwise(one, two).numpy()
    assert np.allclose(cosines, task_model.predictions(split, CPU, "test")[:, 0], atol=1e-5)


@pytest.mark.parametrize("distilled", [False, True], ids=["undistilled", "distilled"])
def test_training_brings_similar_texts_together(tmp_path, distilled):
    path = save("bert", tmp_path / "start")
    before = open_task_model(StudentSpec(path), CARD, pairs(), TrainSettings(max_length=16))
    task_model, _ = train(path, tmp_path, distilled)
    errors = [
        one.predictions(pairs(), CPU, "train")[:, 0] - np.array(task_model.targets) for one in (before, task_model)
    ]
    assert np.square(errors[1]).mean() < 0.5 * np.square(errors[0]).mean()
    scores = task_model.evaluate(pairs(), CPU, "train")
    assert scores["spearman"] > 0.8
    assert scores["pearson"] > 0.8


def test_the_distillation_terms_act_on_the_mean_of_the_two_embeddings(tmp_path):
    model, tokenizer = load_embedder(StudentSpec(save("bert", tmp_path)), 0)
    batch = tokenize_pairs(tokenizer, pairs().texts, 16).batch([0, 1, 2], CPU)
    model.eval()
    pooled, cosines = pooled_and_logits(model, batch)
    one, two = (embed(model, tokenizer([texts[place] for texts in pairs().texts[:3]], padding=True,
                                       return_tensors="pt")) for place in (0, 1))  # fmt: skip
    assert torch.allclose(pooled, (one + two) / 2, atol=1e-6)
    assert torch.allclose(cosines[:, 0], torch.nn.functional.cosine_similarity(one, two), atol=1e-6)
    (pooled.sum() + pooled_and_cosines(model, batch)[1].sum()).backward()
    assert model.embeddings.word_embeddings.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rank", [None, 2], ids=["full", "lora"])
def test_the_pooler_that_no_embedding_passes_through_is_not_trained(tmp_path, rank):
    model, _ = load_embedder(StudentSpec(save("bert", tmp_path), lora_rank=rank), 0)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert not any(name.startswith("pooler") for name in trained)


def test_a_student_with_low_rank_layers_is_exported_merged(tmp_path):
    task_model, _ = train(StudentSpec(save("llama", tmp_path / "start"), lora_rank=2), tmp_path)
    assert not any("lora_" in name for name, _ in task_model.model.named_parameters())
    texts = ["good", "bad plane late"]
    assert np.allclose(stock_vectors(tmp_path / "export", texts), our_vectors(task_model, texts), atol=1e-5)


def test_scores_become_cosines_by_the_training_rows():
    assert cosine_scale([0.0, 5.0, 2.5]).standardised([0.0, 5.0, 2.5]) == [0.0, 1.0, 0.5]
    assert cosine_scale([-30.0, -10.0]).standardised([-30.0, -10.0]) == [0.0, 1.0]
    assert cosine_scale([-0.5, 1.0]).standardised([-0.5, 1.0]) == [-0.5, 1.0]  # these are cosines already
    assert cosine_scale([3.0, 3.0]).standardised([3.0]) == [0.0]


def test_the_limit_of_tokens_is_that_of_a_single_text(tmp_path):
    path = save("bert", tmp_path)
    texts = [("good " * 20, "bad")] * 4
    split = Split(list("abcd"), texts, ["p"] * 4, [1.0, 2.0, 3.0, 4.0])
    tokens = open_task_model(StudentSpec(path), CARD, split, TrainSettings(max_length=16)).tokens
    assert tokens.lengths.tolist() == [16] * 4
    assert tokens.truncated == 4
    both = [("good " * 20, "bad"), ("good " * 20, "bad " * 20), ("good", "bad")]
    assert tokenize_pairs(load_embedder(StudentSpec(path), 0)[1], both, 16).truncated == 2  # rows, not texts
    assert with_length(StudentSpec(path), CARD, split, TrainSettings()).max_length == 128


def test_a_card_of_similarity_has_two_texts_and_numbers():
    facts = CARD.model_dump(exclude_none=True)
    with pytest.raises(ValueError, match="text: expected two templates, one for each text of a pair, found one"):
        Card.model_validate({**facts, "text": ["{one} {two}"]})
    with pytest.raises(ValueError, match="labels: expected none of a similarity task"):
        Card.model_validate({**facts, "labels": ["a", "b"]})
    with pytest.raises(ValueError, match="metrics: expected some of pearson, spearman, found accuracy"):
        Card.model_validate({**facts, "metrics": ["accuracy"]})


def test_a_student_whose_encoder_transformers_does_not_load_alone_is_refused(tmp_path):
    with pytest.raises(ArmadaError, match=r"expected an encoder or a decoder of texts.* found the architecture bart"):
        load_embedder(StudentSpec(save("bart", tmp_path)), 0)
