"""A study's results name what decided them, and are enough to get the same numbers again without a call."""

import json
import shutil

import pytest

from pipelines.study.config import digest_of
from pipelines.study.ledger.reruns import Agreement, agreement, open_study, read_record
from pipelines.study.report import write_report
from pipelines.study.runner import run_study
from teacher_cache import ArmadaError, Cache, status
from tests.pipelines.cli import armada
from tests.pipelines.studies import write_study
from tests.pipelines.study.simulated import InThisProcess

READOUTS = {"finetune": True, "few_shot": {"labelled": 8, "arms": ["relational"], "pretraining": {"epochs": 1}}}


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.study.runner.get_context", InThisProcess.get_context)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    path = write_study(folder, seeds=[0], readouts=READOUTS)
    assert run_study(path, folder / "out", jobs=2)
    write_report(folder / "out")
    return path, folder / "out"


def results(out):
    return json.loads((out / "results.json").read_text())


def test_the_results_name_the_digests_of_file_cache_features_and_code(done):
    path, out = done
    ledger = results(out)["ledger"]
    assert ledger["file"] == {"sha256": digest_of(path.read_bytes()), "text": path.read_text()}
    assert ledger["cache"]["commits"] == sorted(one.stem for one in (out / "cache" / "commits").glob("*.json"))
    runs = ledger["runs"]
    assert set(runs) == {f"finetune/{arm}-seed0" for arm in ("undistilled", "relational", "shuffled")} | {
        "few_shot/relational-seed0"
    }
    for name in ("finetune/relational-seed0", "few_shot/relational-seed0"):
        assert len(runs[name]["digest"]) == len(runs[name]["view_digest"]) == 64
        assert runs[name]["teacher"].startswith("fake-")
    assert runs["finetune/undistilled-seed0"]["view_digest"] is None
    assert [len(code["source_sha256"]) for code in ledger["code"]] == [64]
    assert ledger["code"][0]["version"]
    assert str(out.parent) not in json.dumps({**ledger, "file": None}), "a path of this machine is published"


@pytest.mark.slow
def test_a_study_is_done_again_from_its_results_and_shards_with_the_same_numbers_and_without_a_call(done, tmp_path):
    _, out = done
    shutil.copy(out / "results.json", tmp_path / "results.json")
    shutil.copytree(out / "cache", tmp_path / "shards")
    before = status(Cache(str(tmp_path / "shards")))[0].calls
    with pytest.raises(ArmadaError, match="name another place of it by --cache"):
        run_study(tmp_path / "results.json", tmp_path / "again")
    lines = []
    assert run_study(tmp_path / "results.json", tmp_path / "again", 2, lines.append, str(tmp_path / "shards"))
    assert "4 runs: 0 finished, 4 to do, 2 at once" in lines
    found = write_report(tmp_path / "again")
    assert agreement(read_record(out), found.findings.measured) == Agreement(4, 4, 0.0)
    again, former = results(tmp_path / "again"), results(out)
    for part in ("measured", "comparisons", "verdict", "file_sha256"):
        assert again[part] == former[part]
    assert again["ledger"] == former["ledger"]
    assert again["changes"] == []
    assert not (tmp_path / "again" / "cache").exists()
    assert status(Cache(str(tmp_path / "shards")))[0].calls == before


def test_in_its_own_folder_a_study_finds_its_cache_and_its_file(done):
    path, out = done
    assert open_study(out).read_from == str(out / "cache")
    assert open_study(out).path == open_study(out / "results.json").path == path
    assert open_study(out, "elsewhere").study.cache == "elsewhere"
    assert open_study(path).read_from is None


def test_a_record_whose_values_are_others_is_said_and_ends_with_3(done, tmp_path):
    _, out = done
    found = results(out)
    found["measured"][0]["values"][0] += 0.25
    (tmp_path / "results.json").write_text(json.dumps(found))
    run = armada("study", tmp_path / "results.json", "--out", out, "--cache", out / "cache", "--json")
    assert run.returncode == 3, run.stderr
    assert json.loads(run.stdout)["same_as_recorded"] == "3 of 4 values, largest difference 0.25"


def test_a_record_with_another_text_or_without_a_ledger_is_refused_in_one_sentence(done, tmp_path):
    _, out = done
    found = results(out)
    path = tmp_path / "results.json"
    for change, message in (
        ({**found, "ledger": {"file": {**found["ledger"]["file"], "text": "name: other"}}}, "not that of its digest"),
        ({"study": "old"}, "expected the results of a study with its ledger"),
    ):
        path.write_text(json.dumps(change))
        with pytest.raises(ArmadaError, match=message):
            open_study(path)
    path.write_text("{")
    with pytest.raises(ArmadaError, match=r"results\.json: "):
        open_study(path)


def test_rows_that_were_changed_since_are_refused(done, tmp_path):
    _, out = done
    found = results(out)
    found["ledger"]["inputs"] = {"data_files": "0" * 64}
    (tmp_path / "results.json").write_text(json.dumps(found))
    with pytest.raises(ArmadaError, match="data_files: expected rows of the digest 0000"):
        open_study(tmp_path / "results.json", str(out / "cache"))
