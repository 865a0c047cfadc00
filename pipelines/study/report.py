"""The report of a study: one HTML page that needs no network, Markdown for a README, and the results as JSON.

Every text from a file is escaped in HTML: the template's autoescape is on.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.files import read_json, write_json
from pipelines.html_templates import template_environment
from pipelines.number_format import duration, interval, plain, probability, signed
from pipelines.study.config import Study, StudyFile, parse_study
from pipelines.study.costs import Costs, study_costs
from pipelines.study.findings import READOUTS, Findings, find
from pipelines.study.inputs import input_digests, study_splits
from pipelines.study.joined.pilots import PilotSaid, agreement_in_words, matching, pilots_beside
from pipelines.study.ledger.digests import RECORD_KINDS, ledger_of, sources_of
from pipelines.study.ledger.reruns import RESULTS, present_digest, with_cache
from pipelines.study.markdown import markdown
from pipelines.study.plots import curves, scale_of
from pipelines.study.runner import runs_of
from pipelines.study.verdicts.comparisons import Comparison, Measured
from teacher_cache import ArmadaError

STATE_KINDS: dict[str, Any] = {
    "text": str,
    "file": str,
    "digests": list,
    "inputs": dict | None,
    "read_from": str | None,
}
HTML, MARKDOWN = "report.html", "report.md"


@dataclass(frozen=True)
class Report:
    """The content of a report."""

    file: StudyFile
    findings: Findings
    costs: Costs | None
    changes: tuple[str, ...]  # warnings about changes of the study file
    versions: dict[str, Any]
    data: dict[str, Any]  # digests of the rows that the runs were given
    ledger: dict[str, Any] = field(default_factory=dict)
    said: PilotSaid | None = None  # by a pilot of the same task, teacher and encoder

    @property
    def agreement(self) -> str:
        """Whether the pilot said the same, in words; empty without a pilot."""
        return agreement_in_words(self.said, self.findings.verdict) if self.said else ""


def write_report(out: Path, pilots: Sequence[PilotSaid] = ()) -> Report:
    """Write `report.html`, `report.md` and `results.json` into a study's folder.

    What a pilot of the study's task, teacher and encoder said stands beside the verdict: one of `pilots`, or one that
    lies beside the study. Raise ArmadaError if the folder is not that of a study.
    """
    report = gather(out, pilots)
    write_json(out / RESULTS, results(report))
    (out / MARKDOWN).write_text(markdown(report), "utf-8")
    (out / HTML).write_text(html(report), "utf-8")
    return report


def gather(out: Path, pilots: Sequence[PilotSaid] = ()) -> Report:
    """Read a study's folder, and the pilot of it. Raise ArmadaError if it is not that of a study."""
    path = out / "study.json"
    if not path.is_file():
        raise ArmadaError(
            f"{out}: expected the folder of a study, with study.json; run it by: armada study FILE --out "
            f"{shlex.quote(str(out))}"
        )
    state = read_json(path, "armada study", **STATE_KINDS)
    file = parse_study(state["text"].encode("utf-8", "replace"), Path(state["file"]))
    file = with_cache(file, state["read_from"]) if state.get("read_from") else file
    runs = runs_of(file.study)
    splits = study_splits(file.study)
    findings = find(file.study, out, runs, splits.test)
    record = next((out / "runs").glob("*/*/run.json"), None)
    facts = read_json(record, "armada study", **RECORD_KINDS) if record else {}
    digests = {name: facts.get("identity", {}).get(name) for name in ("train_digest", "test_digest")}
    ledger = ledger_of(file, out, runs, state.get("commits"))
    sources = sources_of(ledger, file.study.primary.arm)
    name = file.study.card.name
    return Report(
        file=file,
        findings=findings,
        costs=study_costs(file.study, out, runs, len(splits.train)),
        changes=_changes(state, file),
        versions={**facts.get("versions", {}), "git": (facts.get("git") or {}).get("revision")},
        data=digests,
        ledger=ledger,
        said=matching(pilots, name, *sources) or matching(pilots_beside(out), name, *sources),
    )


def _changes(state: dict[str, Any], file: StudyFile) -> tuple[str, ...]:
    """Return a warning for each way in which the file, the card or the rows differ from when the study ran."""
    warnings, digests = [], state["digests"]
    for name, digest in input_digests(file.study).items():
        if state.get("inputs", {}).get(name, digest) != digest:
            warnings.append(
                f"{name} was changed after the study ran: its digest is now {digest}. Runs on the former rows do not "
                "count; run the study again."
            )
    if len(digests) > 1:
        warnings.append(
            f"The study file was changed while the study ran: its digests were {', '.join(map(str, digests))}. Runs "
            "whose own settings are the same in the last one are kept, the others were done again."
        )
    if not file.path.is_file():
        return (*warnings, f"The study file is no longer at {file.path}.")
    now = present_digest(file.path)
    if digests[-1:] != [now]:
        warnings.append(f"The study file was changed after these results: its digest is now {now}.")
    return tuple(warnings)


def results(report: Report) -> dict[str, Any]:
    """Return what is written as results.json: the findings, and the ledger of what decided them."""
    study = report.file.study
    return {
        "study": study.name,
        "question": study.question,
        "task": study.card.name,
        "student": study.student,
        "metric": study.metric,
        "arm": study.primary.arm,
        "margin": study.primary.margin,
        "file_sha256": report.file.digest,
        "changes": list(report.changes),
        **asdict(report.findings),
        "comparisons": [{**asdict(one), "bounds": one.bounds} for one in report.findings.comparisons],
        "account": asdict(report.costs) if report.costs else None,
        "versions": report.versions,
        "data": report.data,
        "pilot": {**asdict(report.said), "agreed": report.said.agrees(report.findings.verdict)}
        if report.said
        else None,
        "ledger": report.ledger,
    }


def html(report: Report) -> str:
    """Return the report as one HTML page."""
    filters: dict[str, Callable[..., str]] = {
        "interval": interval,
        "signed": signed,
        "plain": plain,
        "probability": probability,
        "duration": duration,
    }
    study = report.file.study
    return (
        template_environment(filters)
        .get_template("report.html.j2")
        .render(
            report=report,
            study=study,
            findings=report.findings,
            readouts=[_panel(report, name, title) for name, title in READOUTS.items() if _of(report, name)],
            primary=_differences(report, [found for found in report.findings.comparisons if found.is_primary]),
            others=[
                (title, _differences(report, rows))
                for name, title in READOUTS.items()
                if (rows := [f for f in report.findings.comparisons if f.readout == name and not f.is_primary])
            ],
            curves=curves(report.findings.curves),
            titles=READOUTS,
            labels=_labels(study),
            descriptions=_descriptions(study),
        )
    )


def _labels(study: Study, shown: int = 40) -> list[str]:
    """Return the classes of the task that a row may have; none of a choice, whose answers are its own."""
    classes = study.card.classes if study.card.type != "choice" else []
    return [*classes[:shown], *([f"{len(classes) - shown} more"] if len(classes) > shown else [])]


def _of(report: Report, readout: str) -> list[Measured]:
    return [found for found in report.findings.measured if found.readout == readout]


def _panel(report: Report, name: str, title: str) -> dict[str, Any]:
    found = _of(report, name)
    return {"name": name, "title": title, "arms": found, "scale": scale_of([v for one in found for v in one.values])}


def _differences(report: Report, rows: Sequence[Comparison]) -> dict[str, Any]:
    """Return comparisons with one scale, which also contains zero and the margin."""
    margin = report.file.study.primary.margin
    ends = [end for found in rows for end in (*found.bounds, found.mean) if end is not None]
    return {"rows": rows, "scale": scale_of([*ends, -margin, margin])}


def _descriptions(study: Study) -> dict[str, str]:
    """Return a description of each arm."""
    from distill import find_control

    descriptions = {}
    for name, arm in study.arms.items():
        control = find_control(arm.control)
        plain = "no teacher" if arm.control else f"the pictures, manifold loss {arm.manifold}"
        own = [f"{option.replace('_', ' ')} {value}" for option, value in (arm.model_extra or {}).items()]
        descriptions[name] = ", ".join([control.words if control else plain, *own])
    return descriptions
