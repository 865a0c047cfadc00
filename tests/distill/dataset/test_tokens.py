"""The default limit of tokens comes from the rows; prompts are cut before answers."""

import numpy as np
import pytest

from distill.cards.cards import load_card
from distill.dataset.tokens import default_length
from distill.settings import TrainSettings, changes
from distill.students.generation import load_generator, tokenize_answers
from distill.students.loading import StudentSpec
from distill.students.task_model import MAX_NEW_TOKENS, open_task_model, with_length
from distill.tasks.splits import Split
from tests.distill.tiny import save_decoder

CARD = load_card("demo/word-problems")


def rows(count, words):
    """Problems whose answers have `words` words."""
    prompts = [f"my plane {row % 10} is" for row in range(count)]
    answers = [(" ".join([str(row % 10)] * words),) for row in range(count)]
    return Split(prompts, [(prompt,) for prompt in prompts], prompts, answers)


@pytest.mark.parametrize(
    ("lengths", "positions", "expected"),
    [
        ([20] * 100, 512, 128),  # short rows: the baseline, which names the same run as before
        ([*[20] * 98, 300, 310], 512, 300),
        ([*[20] * 99, 300], 512, 128),  # 1 % may be cut
        ([4000] * 10, 512, 512),
        ([40] * 10, 32, 128),  # the student's positions limit it where it is used
        ([], 512, 128),
    ],
)
def test_the_default_is_the_99th_percentile_within_the_student(lengths, positions, expected):
    assert default_length(np.asarray(lengths, np.int64), positions) == expected


def test_long_answers_are_kept_by_default_and_lost_at_a_limit_of_128(tmp_path):
    """As of GSM8K, which lost 3,055 of 7,473 answers at 128 tokens."""
    path = save_decoder(tmp_path, causal=True, max_position_embeddings=512)
    spec, train = StudentSpec(str(path)), rows(20, 150)
    _, tokenizer = load_generator(spec, 0)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(path)
    settings = with_length(spec, CARD, train, TrainSettings())
    assert settings.max_length == 4 + 150 + 1
    task_model = open_task_model(spec, CARD, train, settings)
    assert (task_model.tokens.truncated, task_model.answers_cut) == (0, 0)
    cut = open_task_model(spec, CARD, train, TrainSettings(max_length=128))
    assert (cut.tokens.truncated, cut.answers_cut) == (20, 20)
    assert MAX_NEW_TOKENS >= 400


def test_a_limit_that_is_given_stays_and_an_open_one_names_no_run(tmp_path):
    settings = TrainSettings(max_length=64)
    assert with_length(StudentSpec("nowhere"), CARD, rows(2, 1), settings) is settings
    assert changes(TrainSettings()) == {} == changes(TrainSettings(max_length=128))
    assert changes(TrainSettings(max_length=300)) == {"max_length": 300}


def test_a_prompt_is_cut_first_and_keeps_its_start_token(tmp_path):
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    found = tokenize_answers(tokenizer, ["good " * 20 + "bad", "good"], ["1 2", "4"], 8)
    words = tokenizer.convert_ids_to_tokens(found.tokens.columns["input_ids"][0])
    assert words == ["<s>", "good", "good", "good", "bad", "1", "2", "</s>"]
    assert (found.tokens.truncated, found.answers_cut) == (1, 0)
