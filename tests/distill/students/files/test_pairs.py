"""Pairs: every student can tell the two texts of a row apart, and its export keeps the template."""

import pytest
from transformers import AutoTokenizer, GPT2Tokenizer, Qwen2Tokenizer

from distill.dataset.tokens import tokenize
from distill.students.export import export_student
from distill.students.files.pairs import add_separator, check_pairs, has_separator
from distill.students.files.student_files import Source, load_tokenizer, pair_separator
from distill.students.loading import load_student
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student

PAIRS = [("good plane", "bad"), ("good", "plane bad")]


def test_a_decoder_tells_the_two_texts_of_a_pair_apart(tmp_path):
    path = save_decoder(tmp_path)
    stock = AutoTokenizer.from_pretrained(path)
    assert stock(*PAIRS[0])["input_ids"] == stock(*PAIRS[1])["input_ids"]  # why it needs a separator
    tokenizer = load_student(str(path), ["a", "b"], 0)[1]
    rows = tokenize(tokenizer, PAIRS).columns["input_ids"]
    assert rows[0] != rows[1]
    assert [row.count(tokenizer.eos_token_id) for row in rows] == [1, 1]
    assert tokenize(tokenizer, [("good plane",)]).columns["input_ids"] == [stock("good plane")["input_ids"]]


def test_stock_transformers_separates_pairs_with_the_exported_tokenizer(tmp_path):
    path = save_decoder(tmp_path / "start")
    model, tokenizer = load_student(str(path), ["a", "b"], 0)
    export_student(model, tokenizer, tmp_path / "export", "card")
    stock = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert [stock(*pair)["input_ids"] for pair in PAIRS] == tokenize(tokenizer, PAIRS).columns["input_ids"]
    assert pair_separator(Source("export", str(tmp_path / "export"))) is None  # it has one of its own now


def byte_level(kind, **options):
    """A tokenizer of another class than the generic one, without a template for pairs."""
    vocabulary = {token: place for place, token in enumerate(["<|endoftext|>", "a", "b", "Ġ", "Ġa", "Ġb"])}
    return kind(vocab=vocabulary, merges=[("Ġ", "a"), ("Ġ", "b")], **options)


@pytest.mark.parametrize("kind", [GPT2Tokenizer, Qwen2Tokenizer])
def test_the_template_survives_saving_for_tokenizers_of_decoders(tmp_path, kind):
    tokenizer = byte_level(kind)
    before = tokenizer("a b")["input_ids"]
    assert not has_separator(tokenizer)
    assert add_separator(tokenizer) == "<|endoftext|>"
    assert tokenizer("a b")["input_ids"] == before
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.eos_token_id
    expected = [*tokenizer("a")["input_ids"], end, *tokenizer("b")["input_ids"]]
    assert again("a", "b")["input_ids"] == tokenizer("a", "b")["input_ids"] == expected
    assert again("a" * 9, "b", truncation=True, max_length=4)["input_ids"].count(end) == 1


def test_special_tokens_around_a_text_stay_where_they_are(tmp_path):
    from tokenizers import processors

    tokenizer = AutoTokenizer.from_pretrained(save_decoder(tmp_path))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    single = tokenizer("good plane")["input_ids"]
    assert add_separator(tokenizer) == "</s>"
    assert tokenizer("good plane")["input_ids"] == single
    assert tokenizer("good", "plane")["input_ids"] == [2, single[1], 3, single[2], 3]


def test_special_tokens_are_found_where_the_letter_a_is_no_token(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "plane": 2}))  # without a token for what is unknown
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")
    assert add_separator(tokenizer) == "</s>"
    assert tokenizer("plane", "plane")["input_ids"] == [0, 2, 1, 2]


def test_the_pairs_of_an_encoder_are_tokenised_as_before(tmp_path):
    path = save_student(tmp_path)
    stock, ours = AutoTokenizer.from_pretrained(path), load_tokenizer(Source("student", str(path)))
    assert pair_separator(Source("student", str(path))) is None
    assert stock(*PAIRS[0]) == ours(*PAIRS[0])


def test_a_tokenizer_that_can_not_separate_pairs_is_refused_for_pairs(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(save_decoder(tmp_path, pad="<pad>"))
    tokenizer.eos_token = None
    assert add_separator(tokenizer) is None
    with pytest.raises(ArmadaError, match="my student: expected a tokenizer that separates the two texts of a pair"):
        check_pairs("my student", tokenizer)
