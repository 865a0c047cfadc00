"""Every option of `armada train` is one declaration: the command line, `--config` and a study's arm take it under the
same name and give the same request, and it reaches the training. An option without an example fails here."""

import gc
import json
import shutil
from types import SimpleNamespace

import accelerate.utils
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml
from click.testing import CliRunner
from typer.main import get_command

from distill.students.sharing import Shared
from distill.training.checkpoints import Checkpoints
from pipelines.cli import app
from pipelines.run import training
from pipelines.run.request import make_request, train_options
from pipelines.run.student import spec_of
from pipelines.run.training import run_training
from pipelines.study.declared.parts import Arm
from teacher_cache import ArmadaError, BuildOptions, Cache, build
from tests import fakes
from tests.distill.tiny import save_student, split
from tests.pipelines.run.options.every_option import EXAMPLES

OPTIONS = sorted(train_options())
COMMAND = get_command(app)
OF_THE_STUDY = {
    "task", "type", "rows", "data_files", "text_column", "label_column", "out", "cache", "seed", "recipe", "track",
    "select", "lora_export",
}  # fmt: skip
CLASSES = ("negative", "neutral", "positive")


def write(folder, rows):
    folder.mkdir()
    for name in ("train", "validation", "test"):
        lines = [{**row, next(iter(row)): f"{name} {next(iter(row.values()))}"} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [f"train {next(iter(row.values()))}" for row in rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A student of two layers, rows, and their features in a cache and in files."""
    home = tmp_path_factory.mktemp("home")
    save_student(home / "student", layers=2)
    texts = split(24).prompts
    prompts = write(home / "data", [{"text": text, "sentiment": CLASSES[n % 3]} for n, text in enumerate(texts)])
    write(home / "other", [{"text": text, "sentiment": CLASSES[n % 2]} for n, text in enumerate(texts)])
    pairs = [{"sentence1": text, "sentence2": "a plane", "label": n % 5 - 2.0} for n, text in enumerate(texts)]
    write(home / "scores", pairs)
    build(Cache(str(home / "cache"), create=True), prompts, fakes.teacher(), fakes.encoder(), BuildOptions(samples=2))
    values = np.random.default_rng(0).standard_normal((24, 8)).astype(np.float32)
    parquet.write_table(pa.table({"prompt": prompts, "feature": pa.array(list(values))}), home / "own.parquet")
    np.save(home / "named.npy", values)
    (home / "keys.txt").write_text("\n".join(prompts))
    np.save(home / "partial.npy", values[:-3])
    (home / "partial.npy.keys.txt").write_text("\n".join(prompts[:-3]))
    lines = [f"{text},{text[::-1]},{n % 3},{n % 2}" for n, text in enumerate(split(60).prompts)]
    (home / "rows.csv").write_text("text,other,label,mood\n" + "\n".join(lines) + "\n")
    gc.collect()
    gc.freeze()  # each run collects garbage, which takes longer than the run if it looks at every imported module
    yield home
    gc.unfreeze()


def filled(value, home):
    return value.replace("{home}", str(home)) if isinstance(value, str) else value


def options(home, name, with_it=True):
    """The options of the example of an option, without the option itself if `with_it` is false."""
    example = EXAMPLES[name]
    found = {
        "task": "demo/sentiment", "student": str(home / "student"), "data_files": str(home / "data"), "batch_size": 8,
        "cache": str(home / "cache"), "epochs": 1, "lr": 1e-2, "precision": "fp32",
    }  # fmt: skip
    found |= {key: filled(value, home) for key, value in example.beside.items()}
    if name in found and not with_it and name not in ("epochs", "lr", "batch_size", "precision", "data_files"):
        del found[name]
    found |= {name: filled(example.value, home)} if with_it else {}
    return {key: value for key, value in found.items() if value is not None}


def test_every_declared_option_has_an_example():
    assert sorted(EXAMPLES) == OPTIONS, "add a line to tests/pipelines/run/options/every_option.py"


@pytest.fixture
def requested(monkeypatch):
    """What the command line asks for, instead of training."""
    found = []
    monkeypatch.setattr(
        training,
        "run_training",
        lambda request: found.append(request) or SimpleNamespace(metrics={}, reused=False),
    )
    return found


def of(request, option):
    part = getattr(request, option.part) if option.part else request
    return getattr(part, option.attribute)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_one_name_on_the_command_line_in_a_file_and_in_an_arm(home, tmp_path, requested, name):
    option, value = train_options()[name], filled(EXAMPLES[name].value, home)
    required = {"task": "t", "student": "s", "out": str(tmp_path / "run")}
    switches = {"True": [option.flag], "False": [f"--no-{option.flag[2:]}"]}
    flags = switches.get(str(value), [str(value)] if name == "rows" else [option.flag, str(value)])
    words = [word for key, one in required.items() if key != name for word in (f"--{key}", one)]
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({**required, name: value}))
    for given in ([*words, *flags], ["--config", str(config)]):
        run = CliRunner().invoke(COMMAND, ["train", *given])
        assert run.exit_code == 0, run.output
    by_flag, by_file = requested
    assert by_flag == by_file
    expected = of(by_flag, option)
    assert expected != option.default
    if name not in OF_THE_STUDY:
        arm = Arm.model_validate({name: value})
        assert of(make_request({**required, **arm.options}), option) == expected
    if option.declared.also:
        assert of(make_request({**required, option.declared.also: value}), option) == expected


@pytest.fixture(scope="module")
def logs():
    """The metrics logs and the records of runs that several options are compared with, by the runs' options."""
    return {}


def trained(home, folder, given):
    request = make_request({"out": str(folder), **given})
    run_training(request)
    return (request.out / "metrics.jsonl").read_text(), json.loads((request.out / "run.json").read_text())


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_reaches_the_training(home, tmp_path, monkeypatch, logs, name):
    if name == "load_4bit":
        pytest.importorskip("bitsandbytes", exc_type=ImportError)
    shows, given = EXAMPLES[name].shows, options(home, name)
    if check := CHECKS.get(shows):
        check(home, tmp_path, monkeypatch, name, given)
        return
    without = options(home, name, with_it=False)
    key = json.dumps(without, sort_keys=True)
    if key not in logs:
        logs[key] = trained(home, tmp_path / "without", without)
    log, record = trained(home, tmp_path / "run", given)
    if shows == "losses":
        assert log != logs[key][0]
    else:
        assert record[shows] != logs[key][1][shows]


def _given(home, folder, monkeypatch, name, given):
    request = make_request({"out": str(folder / "run"), **given})
    run_training(request)
    record = json.loads((request.out / "run.json").read_text())
    assert record["identity"]["task"] == request.task
    assert record["identity"]["student"]["name"] == request.student
    assert str(request.out) == given.get("out", str(folder / "run"))


def _loaded(home, folder, monkeypatch, name, given):
    spec = spec_of(make_request({"out": str(folder), **given}))
    assert getattr(spec.source, name.removeprefix("student_")) == given[name]
    if name == "trust_remote_code":
        return
    with pytest.raises(ArmadaError, match="--student-revision: expected a student of the hub"):
        run_training(make_request({"out": str(folder), **given, "student": str(home / "student")}))


def _refused(home, folder, monkeypatch, name, given):
    with pytest.raises(ArmadaError, match=r"no-such-cache|not built|no features|other|version=2"):
        run_training(make_request({"out": str(folder / "run"), **given}))


def _mends(home, folder, monkeypatch, name, given):
    request = {"out": str(folder / "run"), **given}
    with pytest.raises(ArmadaError, match=f"--{name.replace('_', '-')}|--task is missing"):
        run_training(make_request({key: value for key, value in request.items() if key != name}))
    run_training(make_request(request))


def _adapter(home, folder, monkeypatch, name, given):
    trained(home, folder / "run", given)
    assert (folder / "run" / "student" / "adapter_config.json").exists()


def _compiled(home, folder, monkeypatch, name, given):
    """By a backend that compiles in no time, and needs no compiler."""
    plugin, made = accelerate.utils.TorchDynamoPlugin, []

    def quick(backend, dynamic):
        made.append(backend)
        return plugin(backend="eager", dynamic=dynamic)

    monkeypatch.setattr(accelerate.utils, "TorchDynamoPlugin", quick)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    _, record = trained(home, folder / "run", given)
    assert (made, record["compiled"]) == (["inductor"], True)


def _batches(home, folder, monkeypatch, name, given):
    sizes, batches = [], Shared.batches

    def recorded(self, *arguments):
        found = batches(self, *arguments)
        sizes.extend(map(len, found))
        return found

    monkeypatch.setattr(Shared, "batches", recorded)
    trained(home, folder / "run", given)
    assert max(sizes) == given[name]


def _saved(home, folder, monkeypatch, name, given):
    found, save = [], Checkpoints.save

    def recorded(self, *arguments):
        save(self, *arguments)
        found.append(len(list(self._folder.glob("step-*.pt"))))

    monkeypatch.setattr(Checkpoints, "save", recorded)
    trained(home, folder / "run", given)
    assert found == {"save_steps": [1, 2, 2], "keep": [1, 1, 1]}[name]


def _tracked(home, folder, monkeypatch, name, given):
    trained(home, folder / "run", given)
    assert list((folder / "run" / "trackers").glob("events.*"))


CHECKS = {
    "given": _given,
    "loaded": _loaded,
    "refused": _refused,
    "mends": _mends,
    "adapter": _adapter,
    "compiled": _compiled,
    "batches": _batches,
    "saved": _saved,
    "tracked": _tracked,
}
