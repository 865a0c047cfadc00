"""A study that is done again from its ledger: the same file, rows and features, in a fresh folder, without a call."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.files import read_json, strict_json
from pipelines.study.config import StudyFile, digest_of, parse_study, read_study
from pipelines.study.inputs import input_digests
from pipelines.study.verdicts.comparisons import Measured
from teacher_cache import ArmadaError

RESULTS, STATE = "results.json", "study.json"


class _File(BaseModel):
    sha256: str
    text: str


class _Ledger(BaseModel):
    model_config = ConfigDict(extra="allow")

    file: _File
    inputs: dict[str, str] = {}


class _Values(BaseModel):
    readout: str
    arm: str
    seeds: list[int]
    values: list[float]


class Recorded(BaseModel):
    """What a study's results.json says of the study and of its values."""

    ledger: _Ledger
    measured: list[_Values]


@dataclass(frozen=True)
class Agreement:
    """How many values of a rerun are those of the record, to TOLERANCE, and the largest difference."""

    same: int
    of: int
    largest: float


TOLERANCE = 1e-6


def open_study(path: Path, cache_url: str | None = None, name: str | None = None) -> StudyFile:
    """Return the study of a file; or of a folder or a results.json that a study has written, with the cache in that
    folder unless the study names one; of joined results, the study of this name. `cache_url` wins. Raise ArmadaError
    if the rows are others than recorded."""
    if not is_record(path):
        return _reading(read_study(path), cache_url)
    record, home = read_record(path, name), _results_of(path).parent
    found = record.ledger.file
    if digest_of(found.text.encode("utf-8")) != found.sha256:
        raise ArmadaError(f"{_results_of(path)}: the text of the study file is not that of its digest {found.sha256}")
    file = parse_study(found.text.encode("utf-8"), _place_of(home))
    now = input_digests(file.study)
    for name, digest in record.ledger.inputs.items():
        if now.get(name) != digest:
            raise ArmadaError(f"{path}: {name}: expected rows of the digest {digest}, found {now.get(name)}")
    if not cache_url and not file.study.cache:
        cache_url = str(home / "cache")
        if not Path(cache_url).exists():
            raise ArmadaError(f"{path}: expected the study's cache in {cache_url}; name another place of it by --cache")
    return _reading(file, cache_url)


def is_record(path: Path) -> bool:
    """Return whether a path is that of results, and not of a study file."""
    is_json = path.suffix == ".json" and path.is_file()
    return path.is_dir() or path.name == RESULTS or (is_json and b'"ledger"' in path.read_bytes())


def present_digest(path: Path) -> str:
    """Return the digest of the study file at a path now; of results, that of the file which they record."""
    return read_record(path).ledger.file.sha256 if is_record(path) else digest_of(path.read_bytes())


def read_record(path: Path, name: str | None = None) -> Recorded:
    """Read the results.json of a study, or that in a study's folder; of joined results, the study of this name.

    Raise ArmadaError if there is no such study, or no ledger in it.
    """
    path = _results_of(path)
    if not path.is_file():
        raise ArmadaError(f"{path}: no such file; armada report {shlex.quote(str(path.parent))} writes it")
    try:
        data = strict_json(path.read_bytes())
        studies = data["studies"] if isinstance(data, dict) and "studies" in data else [data]
        named = [one for one in studies if name is None or one["study"] == name]
        if len(named) != 1:
            known = ", ".join(str(one["study"]) for one in studies)
            raise ArmadaError(f"{path}: expected --name with one of its studies ({known}), found {name or 'none'}")
        return Recorded.model_validate(named[0])
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "file"
        found = f"{place}: {fault['msg']}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found = str(error)
    raise ArmadaError(
        f"{path}: expected the results of a study with its ledger, which "
        f"armada report {shlex.quote(str(path.parent))} writes; "
        f"found {found}"
    )


def agreement(record: Recorded, measured: Sequence[Measured]) -> Agreement:
    """Compare the values of a rerun with those of the record, by read-out, arm and seed."""
    found = {(one.readout, one.arm, seed): value for one in measured for seed, value in _by_seed(one)}
    before = {(one.readout, one.arm, seed): value for one in record.measured for seed, value in _by_seed(one)}
    gaps = [abs(found[place] - value) for place, value in before.items() if place in found]
    return Agreement(sum(gap <= TOLERANCE for gap in gaps), len(before), max(gaps, default=0.0))


def _by_seed(one: Any) -> list[tuple[int, float]]:
    return list(zip(one.seeds, one.values, strict=True))


def _results_of(path: Path) -> Path:
    return path / RESULTS if path.is_dir() else path


def _place_of(home: Path) -> Path:
    """Return the path of the study file if it still is where the study ran, else that of the results: paths in the
    study file start there."""
    if (home / STATE).is_file():
        file = Path(read_json(home / STATE, "armada study", file=str)["file"])
        if file.is_file():
            return file
    return home.resolve() / RESULTS


def _reading(file: StudyFile, cache_url: str | None) -> StudyFile:
    return with_cache(file, cache_url) if cache_url else file


def with_cache(file: StudyFile, url: str) -> StudyFile:
    """Return the study with another cache, from which it reads everything; its file and digest stay the same."""
    study = file.study.model_copy(update={"cache": url})
    return replace(file, study=study, read_from=url)
