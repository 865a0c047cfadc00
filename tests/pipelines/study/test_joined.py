"""Several studies join into one table and one page, whoever made them, with what their pilots said beforehand."""

import json
import shutil

import pytest

from pipelines.study.joined.entries import entries_of
from pipelines.study.joined.page import html, write_joined
from pipelines.study.joined.pilots import given_pilots, pilots_beside
from pipelines.study.joined.table import join, markdown
from pipelines.study.ledger.reruns import open_study
from pipelines.study.report import write_report
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada
from tests.pipelines.study.simulated import simulate_study, write_pilot

SCRIPT = "<script>document.title = 'taken'</script>"


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Return the folders of a study in which pictures helped, of one in which they did not, and of one without
    predictions, whose name is a script tag."""
    folder = tmp_path_factory.mktemp("studies")
    helped = simulate_study(folder / "colour", "colour", {"undistilled": 0.5, "relational": 0.9, "shuffled": 0.5})
    not_helped = simulate_study(
        folder / "grammar", "grammar", {"undistilled": 0.9, "relational": 0.6, "shuffled": 0.9}, readout="probe"
    )
    old = simulate_study(folder / "old", SCRIPT, {"undistilled": 0.6, "relational": 0.6, "shuffled": 0.6}, rows=60)
    for path in old.rglob("predictions.npz"):
        path.unlink()
    return helped, not_helped, old


def test_the_table_has_a_line_for_each_task_and_read_out_with_effect_interval_and_verdict(studies):
    joined = join(entries_of(studies), [])
    verdicts = {(line.entry.study, line.readout): (line.verdict, line.is_primary) for line in joined.lines}
    assert verdicts["colour", "finetune"] == ("helped", True)
    assert verdicts["colour", "probe"] == ("helped", False)
    assert verdicts["grammar", "probe"] == ("did not help", True)
    assert len(verdicts) == 6
    rows = [line for line in markdown(joined).splitlines() if line.startswith("|")]
    assert rows[0] == "| task | read-out | against undistilled | against shuffled | verdict |"
    assert len(rows) == 2 + 6
    line = next(one for one in joined.lines if one.entry.study == "colour" and one.is_primary)
    low, high = line.differences[0].bounds
    assert f"**Fine-tuned** | {line.differences[0].mean:+.3f} [{low:+.3f}, {high:+.3f}]" in rows[2]
    assert "count the chance of the seeds alone: " in markdown(joined)
    assert "<script" not in markdown(joined)


def test_a_study_without_predictions_is_judged_by_its_seeds_alone_and_says_so(studies, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(studies[2], out)
    findings = write_report(out).findings
    for one in findings.comparisons:
        assert (one.both_low, one.rows_low, one.p_both) == (None, None, None)
        assert one.bounds == (one.low, one.high)
    assert "the chance of the seeds alone" in findings.sentence
    whole = write_report(studies[0]).findings
    assert all(one.counts_rows for one in whole.comparisons)
    assert "the chance of the seeds and of the test rows" in whole.sentence


def test_predictions_that_do_not_give_the_scores_of_their_run_are_not_judged(studies, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(studies[0], out)
    place = out / "runs" / "finetune" / "relational-seed0" / "outcome.json"
    outcome = json.loads(place.read_text())
    outcome["readouts"]["finetune"]["accuracy"] -= 0.1
    place.write_text(json.dumps(outcome))
    found = write_report(out).findings
    mine = [one for one in found.comparisons if (one.arm, one.readout) == ("relational", "finetune")]
    assert [one.counts_rows for one in mine] == [False, False]
    assert any(one.counts_rows for one in found.comparisons if one.readout == "probe")


def test_results_that_others_published_merge_and_count_once(studies, tmp_path):
    one = write_joined([studies[0]], tmp_path / "one", []).page.parent / "results.json"
    write_report(studies[1])
    together = write_joined([one, studies[1] / "results.json", studies[0]], tmp_path / "both", [])
    assert [entry.study for entry in together.joined.entries] == ["colour", "grammar"]
    again = write_joined([tmp_path / "both", studies[2]], tmp_path / "all", [])
    assert [entry.study for entry in again.joined.entries] == ["colour", "grammar", SCRIPT]
    found = json.loads((tmp_path / "all" / "results.json").read_text())
    assert {one["study"] for one in found["rows"]} == {"colour", "grammar", SCRIPT}
    ledger = found["studies"][0]["ledger"]
    assert ledger["cache"]["commits"] == ["c" * 64]
    assert ledger["runs"]["finetune/relational-seed0"]["digest"] == "f" * 64


def test_a_study_is_done_again_from_joined_results_by_its_name(studies, tmp_path):
    write_joined(list(studies), tmp_path / "all", [])
    with pytest.raises(ArmadaError, match=r"expected --name with one of its studies \(colour, grammar, .*found none"):
        open_study(tmp_path / "all" / "results.json", "cache")
    shutil.copytree(studies[1].parent / "grammar", tmp_path / "all" / "grammar")  # paths start at the results
    file = open_study(tmp_path / "all" / "results.json", "cache", "grammar")
    assert (file.study.name, file.study.cache) == ("grammar", "cache")


def test_what_a_pilot_said_stands_beside_the_verdict_and_agrees_or_not(studies, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = entries_of(studies)
    tasks = [entry.task for _, entry in found]
    write_pilot(tmp_path / "pilots" / "one", tasks[0], "worth it")
    write_pilot(tmp_path / "pilots" / "small", tasks[0], "not worth it", rows=100)  # the larger one counts
    write_pilot(tmp_path / "pilots" / "two", tasks[1], "worth it")
    write_pilot(tmp_path / "pilots" / "three", "another task", "worth it")
    joined = join(found, given_pilots([tmp_path / "pilots"]))
    assert joined.pilots == (1, 2)
    assert [line.agreement for line in joined.primary] == ["agreed", "disagreed", ""]
    assert "| worth it: agreed |" in markdown(joined)
    assert "said the same as the study for 1 of 2" in markdown(joined)
    assert "<strong>Disagreed.</strong>" in html(joined)
    alone = write_report(studies[0], given_pilots([tmp_path / "pilots" / "one"]))
    assert alone.agreement == "agreed"
    page = (studies[0] / "report.html").read_text()
    assert "The pilot said beforehand, from 300 rows: Worth it: as seen. <strong>Agreed.</strong>" in page
    assert write_report(studies[0]).said is None
    assert "The pilot said" not in (studies[0] / "report.html").read_text()


def test_a_pilot_beside_the_study_is_found_and_a_broken_one_that_nobody_named_is_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pilot(tmp_path / "armada-pilot" / "colour", "colour", "worth it")
    write_pilot(tmp_path / "out" / "pilot", "size", "not worth it")
    (tmp_path / "out" / "pilot.json").write_text("{}")
    assert [said.task for said in pilots_beside(tmp_path / "out")] == ["size", "colour"]
    with pytest.raises(ArmadaError, match=r"out/pilot\.json: expected what armada pilot writes"):
        given_pilots([tmp_path / "out"])
    with pytest.raises(ArmadaError, match=r"--pilot nowhere: expected pilot\.json"):
        given_pilots([tmp_path.relative_to(tmp_path) / "nowhere"])


def test_the_command_joins_studies_and_prints_a_table_or_json(studies, tmp_path):
    run = armada("report", *studies[:2], "--out", tmp_path / "page", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert [row["verdict"] for row in found["rows"] if row["fixed_beforehand"]] == ["helped", "did not help"]
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"report.html", "report.md", "results.json"}


def test_a_place_that_is_no_study_is_one_error(studies, tmp_path):
    for text, message in (("{", "expected the JSON of results"), ('{"study": "old"}', "since 2026-12")):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(ArmadaError, match=message):
            entries_of([tmp_path / "results.json"])
    with pytest.raises(ArmadaError, match="found neither"):
        entries_of([tmp_path / "nowhere"])
    with pytest.raises(ArmadaError, match="another folder than that of a study"):
        write_joined([studies[0]], studies[0], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser_the_joined_page_fits_and_is_accessible(browser, studies, tmp_path, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = entries_of(studies)
    write_pilot(tmp_path / "pilot", found[0][1].task, "worth it")
    path = write_joined(list(studies), tmp_path / "out", given_pilots([tmp_path / "pilot"])).page
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert messages == []
    assert [url for url in requests if url != path.as_uri()] in ([], ["data:,"])
    assert page.title() == "3 studies: where pictures help"
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    faults = axe.Axe().run(page).response["violations"]
    page.close()
    assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in faults] == []
