"""The digests in a study's ledger: of its file, the rows, the cache's commits, the features of each run, and the code.

They are those of the runs, as they recorded them. A ledger has no path, address or name of a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines.files import read_json
from pipelines.study.config import StudyFile
from pipelines.study.inputs import input_digests
from pipelines.study.run import Run, read_outcome
from teacher_cache import Cache, canonical_json, sha256

# The types of what a run's run.json has at least, and of what it may lack.
RECORD_KINDS: dict[str, Any] = {"identity": dict, "versions": dict, "features": dict | None, "git": dict | None}
PACKAGES = ("teacher_cache", "distill", "pipelines")


def ledger_of(file: StudyFile, out: Path, runs: Iterable[Run], commits: list[str] | None) -> dict[str, Any]:
    """Return the ledger of the finished runs among `runs` in a study's folder.

    `commits` are the digests of the cache's commits when the study ran; None if they were not recorded, as before
    2026-12: the digests of the runs' features say what was read.
    """
    records = {run: record for run in runs if (record := _record(out / "runs" / run.name))}
    return {
        "file": {"sha256": file.digest, "text": file.text},
        "inputs": input_digests(file.study),
        "cache": None if commits is None else {"sha256": sha256(canonical_json(commits)), "commits": commits},
        "runs": {run.name: _read_by(record) for run, record in records.items()},
        "code": _distinct(_code(record) for record in records.values()),
    }


def sources_of(ledger: dict[str, Any], arm: str) -> tuple[str | None, str | None]:
    """Return the names of the teacher and the encoder that the runs of an arm have read; None if it is not recorded."""
    for name, run in ledger.get("runs", {}).items():
        if name.partition("/")[2].rpartition("-seed")[0] == arm and run.get("teacher"):
            return run["teacher"], run.get("encoder")
    return None, None


def commits_of(url: str) -> list[str] | None:
    """Return the sorted digests of the commits of a cache; None if there is no cache there."""
    if "://" not in url and not Path(url).exists():
        return None
    return sorted(commit.digest for commit in Cache(url).commits())


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return the sha256 of the Python sources of this program, which tells changed checkouts apart."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(folder).rglob("*.py")):
                name = f"{package}/{path.relative_to(folder).as_posix()}"
                digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a finished run; of a few-shot run, with the features of its pre-training."""
    outcome, path = read_outcome(folder), folder / "run.json"
    if outcome is None or not path.is_file():
        return None
    record = read_json(path, "armada study", **RECORD_KINDS)
    early = folder / "pretrained" / "run.json"
    if not record.get("features") and early.is_file():
        pretraining = read_json(early, "armada study", identity=dict | None, features=dict | None)
        record["features"] = pretraining.get("features")
        record["identity"]["view_digest"] = pretraining.get("identity", {}).get("view_digest")
    return {**record, "source_sha256": outcome.get("source_sha256")}


def _read_by(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a run has read: the digests of its rows, and of its features joined with them."""
    identity, features = record["identity"], record.get("features") or {}
    rows = {name: identity.get(name) for name in ("train_digest", "test_digest", "view_digest")}
    return {**rows, **{name: features.get(name) for name in ("teacher", "encoder", "digest")}}


def _code(record: dict[str, Any]) -> dict[str, Any]:
    git = record.get("git") or {}
    return {
        "version": record["versions"].get("armada-distill"),
        "git": git.get("revision"),
        "changed": git.get("changed"),
        "source_sha256": record["source_sha256"],
    }


def _distinct(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({canonical_json(one): one for one in found}.values())
