"""lm-evaluation-harness loads an exported student like any checkpoint: `pip install 'armada-distill[eval]'`."""

import json

import pytest

from distill.students.export import export_student
from distill.students.generation import load_generator
from distill.students.loading import StudentSpec
from distill.students.lora import merge_lora
from tests.distill.tiny import save_decoder

lm_eval = pytest.importorskip("lm_eval")

TASK = """
task: tiny
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {max_gen_toks: 4, do_sample: false, until: ["\\n"]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def test_a_tiny_local_task_runs_on_an_exported_student(tmp_path, monkeypatch):
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"question": f"my {n}", "answer": str(n)}) + "\n" for n in range(4)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tiny.yaml").write_text(TASK.replace("DATA", str(data)))
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path / "start", causal=True)), lora_rank=2), 0)
    merge_lora(model)
    export_student(model, tokenizer, tmp_path / "student", "card")
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={tmp_path / 'student'},device=cpu,dtype=float32",
        tasks=["tiny"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        batch_size=2,
        bootstrap_iters=0,
    )
    assert found["results"]["tiny"]["exact_match,none"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found["n-samples"]["tiny"]["effective"] == 4
