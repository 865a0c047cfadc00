"""A study as Markdown for a README. Special characters of Markdown and HTML in a text from a file are escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipelines.number_format import interval, plain, probability, signed
from pipelines.study.findings import READOUTS
from pipelines.study.verdicts.comparisons import Measured

if TYPE_CHECKING:
    from pipelines.study.report import Report


def markdown(report: Report) -> str:
    """Return the verdict and the tables as Markdown."""
    study, findings = report.file.study, report.findings
    lines = [f"**{findings.verdict.capitalize()}.** {quoted(findings.sentence)}", "", quoted(study.question), ""]
    names = [name for name in READOUTS if any(found.readout == name for found in findings.measured)]
    heads = [f"{READOUTS[name]}, {study.metric}" for name in names]
    lines += [f"| arm | {' | '.join(heads)} |", f"|---|{'---:|' * len(names)}"]
    by_place = {(found.readout, found.arm): found for found in findings.measured}
    for arm in study.arms:
        cells = [_cell(by_place.get((name, arm))) for name in names]
        lines.append(f"| {quoted(arm)} | {' | '.join(cells)} |")
    tested = f"test set of {findings.test_rows} {findings.tested_on}"
    lines += ["", f"Mean ± standard deviation over {len(study.seeds)} seeds; {tested}.", ""]
    lines += [
        "| difference | mean | interval | Holm's p | effect | smallest detectable |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for found in findings.comparisons:
        if found.is_primary:
            facts = (
                signed(found.mean),
                interval(found.bounds),
                probability(found.p_holm),
                plain(found.effect, 2),
                plain(found.detectable, 4),
            )
            lines.append(f"| {quoted(found.arm)} against {quoted(found.against)} | {' | '.join(facts)} |")
    said = report.said
    beforehand = f"The pilot said beforehand: {said.worth} ({report.agreement})." if said else ""
    lines += [
        "",
        *([beforehand, ""] if said else []),
        *map(quoted, report.changes),
        f"Study file sha256 `{report.file.digest[:16]}`, {findings.finished} of {findings.planned} runs.",
    ]
    return "\n".join(lines) + "\n"


def _cell(found: Measured | None) -> str:
    if not found:
        return ""
    return f"{found.mean:.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")


def quoted(text: str) -> str:
    """Return text with the special characters of Markdown and HTML escaped."""
    plain = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", plain)
