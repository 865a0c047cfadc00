"""Students that bring code of their own: refused without a question, unless the user says that the code is trusted."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, dynamic_module_utils

from distill.dataset.tokens import tokenize
from distill.students.evaluation import predict
from distill.students.export import export_student
from distill.students.files.student_files import student_identity
from distill.students.loading import StudentSpec, load_student
from distill.students.pooling import pooled_and_logits
from teacher_cache import ArmadaError
from tests.distill.tiny import save_student
from tests.distill.training.test_trainer import LABELS, ROWS, run, teacher_targets

CODE = """
from pathlib import Path
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

Path(MARK).touch()

class BagConfig(PretrainedConfig):
    model_type = "bag-of-words"

    def __init__(self, vocab_size=21, hidden_size=16, num_hidden_layers=1, **others):
        super().__init__(**others)
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers

class BagForSequenceClassification(PreTrainedModel):
    config_class = BagConfig

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids, attention_mask=None, labels=None):
        return SequenceClassifierOutput(logits=self.output((self.words(input_ids) * attention_mask[..., None]).sum(1)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A student whose architecture is in its folder; the file `executed` shows that its code ran."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    path = save_student(tmp_path / "student")
    (path / "bag.py").write_text(CODE.replace("MARK", repr(str(tmp_path / "executed"))))
    code = {"AutoConfig": "bag.BagConfig", "AutoModelForSequenceClassification": "bag.BagForSequenceClassification"}
    config = {"model_type": "bag-of-words", "auto_map": code, "vocab_size": 21, "hidden_size": 16, "pad_token_id": 0}
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").unlink()
    from safetensors.torch import save_file

    save_file({"words.weight": torch.randn(21, 16)}, path / "model.safetensors", {"format": "pt"})
    return path


def test_code_of_a_student_is_refused_with_the_flag_that_allows_it_and_does_not_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    with pytest.raises(ArmadaError, match=r"auto_map.* is not run; .* add --trust-remote-code"):
        load_student(str(folder), LABELS, 0)
    assert not (tmp_path / "executed").exists()


def test_a_trusted_student_trains_and_is_exported_with_its_code_and_its_logits(folder, tmp_path):
    spec = StudentSpec(str(folder), trust_remote_code=True)
    model, _ = run(spec, tmp_path, teacher_targets(1), epochs=1, lr=1e-2)
    assert (tmp_path / "executed").exists()
    _, tokenizer = load_student(spec, LABELS, 0)
    tokens = tokenize(tokenizer, ROWS.texts, 32)
    ours = predict(model, tokens, torch.device("cpu"))
    assert torch.allclose(
        pooled_and_logits(model, tokens.batch([0], torch.device("cpu")))[1], torch.from_numpy(ours[:1])
    )
    export_student(model, tokenizer, tmp_path / "export", "card")
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export", trust_remote_code=True).eval()
    theirs = predict(stock, tokens, torch.device("cpu"))
    assert torch.allclose(torch.from_numpy(ours), torch.from_numpy(theirs), atol=1e-5)


def test_an_embedding_that_a_trusted_student_lacks_is_still_refused(folder):
    from safetensors.torch import save_file

    save_file({"output.weight": torch.randn(3, 16)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArmadaError, match=r"among them words\.weight.*they would be random"):
        load_student(StudentSpec(str(folder), trust_remote_code=True), LABELS, 0)


def test_a_trusted_student_is_known_by_its_code_too(folder):
    name = str(folder)
    assert student_identity(name, name).keys() == {"content"}
    one = student_identity(name, name, trust_remote_code=True)
    assert one["trust_remote_code"] is True
    (folder / "bag.py").write_text(CODE + "\n# changed\n")
    assert student_identity(name, name, trust_remote_code=True)["content"] != one["content"]


def test_code_that_transformers_does_not_need_is_not_asked_for(tmp_path):
    """Some repositories bring code for an architecture that transformers has by now: its own is used."""
    path = save_student(tmp_path)
    config = json.loads((path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "bag.BagConfig"}
    (path / "config.json").write_text(json.dumps(config))
    model, _ = load_student(str(path), LABELS, 0)
    assert type(model).__name__ == "BertForSequenceClassification"


def test_a_revision_reaches_configuration_tokenizer_and_weights(tmp_path, monkeypatch):
    path, seen = save_student(tmp_path), []
    autos = (AutoConfig, AutoTokenizer, AutoModelForSequenceClassification)
    for auto in autos:
        load = auto.from_pretrained

        def fetch(_, load=load, **options):
            seen.append((load.__self__.__name__, options.pop("revision", None)))
            return load(path, **options)

        monkeypatch.setattr(auto, "from_pretrained", fetch)
    load_student(StudentSpec("someone/student", revision="v2"), LABELS, 0)
    student_identity("someone/student", "someone/student", "v2")
    assert {(auto.__name__, "v2") for auto in autos} <= set(seen)


def test_a_revision_is_refused_for_a_student_on_this_machine(folder):
    with pytest.raises(ArmadaError, match=r"--student-revision: expected a student of the hub, found .* local"):
        load_student(StudentSpec(str(folder), revision="main"), LABELS, 0)
