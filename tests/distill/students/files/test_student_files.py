"""A student is what its files say: what they lack or contradict is refused or said, and their content names it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.students.files.student_files import content_digest, student_identity
from distill.students.generation import load_generator
from distill.students.loading import StudentSpec, load_student
from distill.training.checkpoints import identity_key, refuse_another
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student

LABELS = ["a", "b"]


@pytest.fixture
def student(tmp_path):
    return save_student(tmp_path / "student", layers=2)


def change(folder, function):
    path = folder / "model.safetensors"
    save_file(function(load_file(path)), path, {"format": "pt"})


def load(folder, **options):
    return load_student(StudentSpec(str(folder), **options), LABELS, 0)[0]


def test_weights_of_misnamed_keys_are_refused_and_the_prefix_is_named(student):
    change(student, lambda weights: {f"module.{name}": value for name, value in weights.items()})
    with pytest.raises(ArmadaError, match=r"begin with 'module\.', as parallel training saves them: rename them"):
        load(student)


def test_a_missing_weight_of_the_body_is_refused_by_name(student):
    name = "bert.encoder.layer.1.output.dense.weight"
    change(student, lambda weights: {key: value for key, value in weights.items() if key != name})
    with pytest.raises(ArmadaError, match=rf"1 more weights in the student's files, among them {name}.*random"):
        load(student)


def test_a_pooler_that_is_made_anew_is_said(student, capsys):
    change(student, lambda weights: {key: value for key, value in weights.items() if "pooler" not in key})
    model = load(student)
    assert "2 weights initialised anew, because its files lack them: bert.pooler.dense" in capsys.readouterr().err
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= set(model.loaded_weights.new)


def test_a_new_task_head_is_recorded_and_not_announced(student, capsys):
    model = load_student(str(student), ["a", "b", "c"], 0)[0]
    assert set(model.loaded_weights.new) == {"classifier.weight", "classifier.bias"}
    assert "anew" not in capsys.readouterr().err


def test_weights_of_another_shape_are_refused_with_both_shapes(student):
    name = "bert.encoder.layer.0.output.dense.weight"
    change(student, lambda weights: {**weights, name: torch.zeros(16, 8)})
    with pytest.raises(ArmadaError, match=rf"{name}: expected \(16, 32\), found \(16, 8\)"):
        load(student)


def test_more_layers_than_the_configuration_says_are_refused_unless_they_are_cut(student):
    config = json.loads((student / "config.json").read_text())
    assert load(student, layers=1).config.num_hidden_layers == 1
    (student / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ArmadaError, match=r"config\.json says 1 layers, and the weights have more"):
        load(student)


def test_a_nan_among_the_weights_is_refused_by_name(student):
    name = "bert.encoder.layer.0.output.dense.weight"
    change(student, lambda weights: {**weights, name: weights[name] * float("nan")})
    with pytest.raises(ArmadaError, match=rf"{name}: expected finite weights, found a NaN"):
        load(student)


def test_a_language_model_without_its_output_layer_is_refused(tmp_path):
    path = save_decoder(tmp_path)  # a classifier
    with pytest.raises(ArmadaError, match=r"among them lm_head\.weight"):
        load_generator(StudentSpec(str(path)), 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "pointer of git-lfs"),
        ("model.safetensors", b"", "the file is empty"),
        ("model.safetensors", b"\x10" * 100, "the weights are damaged or cut off"),
        ("config.json", b"{", "config.json: expected JSON"),
        ("tokenizer.json", b"[", "tokenizer.json: expected JSON"),
    ],
)
def test_a_broken_file_is_named(student, name, content, message):
    (student / name).write_bytes(content)
    with pytest.raises(ArmadaError, match=message):
        load(student)


def test_broken_weights_of_the_older_format_are_no_traceback(student):
    (student / "model.safetensors").unlink()
    (student / "pytorch_model.bin").write_bytes(b"no weights at all")
    with pytest.raises(ArmadaError, match="no student here"):
        load(student)


def test_a_folder_without_a_tokenizer_is_refused(student):
    for path in student.iterdir():
        if path.name.startswith(("tokenizer", "vocab", "special")):
            path.unlink()
    with pytest.raises(ArmadaError, match=r"expected a tokenizer .* save the one that the student was trained with"):
        load(student)


def test_a_token_without_an_embedding_is_refused_with_both_numbers(student):
    _, tokenizer = load_student(str(student), LABELS, 0)
    tokenizer.add_tokens(["train", "flight"])
    tokenizer.save_pretrained(student)
    with pytest.raises(ArmadaError, match=r"each of the tokenizer's 23 tokens, found 21.*resize_token_embeddings\(23"):
        load(student)


def test_a_student_is_known_by_its_content_and_not_by_its_path(student, tmp_path):
    copy = shutil.copytree(student, tmp_path / "moved")
    one, two = (student_identity(str(path), str(path)) for path in (student, copy))
    assert one == two == {"content": content_digest(student)}
    (copy / "README.md").write_text("no part of it")
    assert content_digest(copy) == one["content"]
    found = {"student": {"name": str(student), **one}}
    refuse_another(found, {"student": {"name": str(copy), **two}}, "run.json")
    assert identity_key(found) == identity_key({"student": {"name": str(copy), **two}})
    change(student, lambda weights: {name: value + 1 for name, value in weights.items()})
    other = {"student": {"name": str(student), **student_identity(str(student), str(student))}}
    with pytest.raises(ArmadaError, match=r"another run is here: student\.content was"):
        refuse_another(found, other, "run.json")
    assert identity_key(found) != identity_key(other)


def test_a_record_without_a_content_is_compared_by_its_name():
    older = {"student": {"name": "folder"}}
    refuse_another(older, {"student": {"name": "folder", "content": "x"}}, "run.json")
    with pytest.raises(ArmadaError, match=r"student\.name was 'folder', now 'other'"):
        refuse_another(older, {"student": {"name": "other", "content": "x"}}, "run.json")


def test_students_of_packages_keep_their_names(tmp_path):
    assert student_identity("minilm", str(tmp_path)) == {}
