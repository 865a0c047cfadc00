"""Teachers: black boxes that turn a prompt into a picture. A teacher is asked for what the cache lacks, and no more.

`draw` pulls requests as it has room for them and yields one answer a request, in any order. A request that was pulled
counts as a call, so a teacher must not pull what it can't send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from teacher_cache.format.sources import Source, _check_same
from teacher_cache.keys import spec_digest
from teacher_cache.registry import specs as plugins
from teacher_cache.registry.specs import parse_spec

BUILT_IN = {
    "pictogram": "teacher_cache.teachers.pictogram:Pictogram",
    "diffusers": "teacher_cache.teachers.diffusers_pipeline:DiffusersPipeline",
    "openai": "teacher_cache.teachers.openai_images:OpenAIImages",
    "folder": "teacher_cache.teachers.folder:Folder",
}
REASONS = ("transient", "permanent", "refused", "blank", "undecodable")


@dataclass(frozen=True)
class Request:
    """One picture to draw. `seed` (63 bits) is the picture's own, derived from its key."""

    image_key: str
    prompt: str
    sample: int
    seed: int


@dataclass(frozen=True)
class Picture:
    """An encoded picture (`suffix` png, webp or jpg). `cost_usd` is None where the teacher has no price."""

    image_key: str
    data: bytes
    suffix: str
    cost_usd: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Failure:
    """A request without a picture: `reason` is one of REASONS, `message` is for a person. With `retry_after_s` the
    teacher asks to be asked again in the same build, after so many seconds at the earliest."""

    image_key: str
    reason: str
    message: str
    cost_usd: float | None = None
    seconds: float = 0.0
    retry_after_s: float | None = None


class Teacher(Protocol):
    """What the cache asks of a teacher. `spec` holds all that changes a picture, and nothing that doesn't. One that
    sets `deterministic` to True promises the same bytes for the same request, and `verify --recompute` holds it to it.
    One with an attribute `concurrency` has so many requests in flight.

    `draw` raises ArmadaError where no request can succeed (a wrong key, no such model): the build stops, and what was
    drawn is kept.
    """

    spec: Mapping[str, Any]
    licence: str  # of the pictures, in words or by link
    price_usd: float | None  # of one call, None where unknown or free of charge

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """One answer a request."""
        ...


def open_teacher(text: str) -> Teacher:
    """The teacher that a spec names; its model is loaded only when it first draws. Raises SpecError."""
    teacher: Teacher = plugins.load("teacher", BUILT_IN, parse_spec(text))
    return teacher


def source_of_teacher(teacher: Teacher) -> Source:
    """A teacher as the cache records it."""
    facts = {
        "licence": teacher.licence,
        "price_usd": teacher.price_usd,
        "deterministic": getattr(teacher, "deterministic", False),
        "text": getattr(teacher, "text", ""),
    }
    return Source(teacher.spec, spec_digest(teacher.spec), facts)


def same_teacher(source: Source) -> Teacher:
    """The teacher of a source, opened again by its text. Raises SpecError where that names another one by now."""
    opened = open_teacher(str(source.facts.get("text")))
    _check_same(source, source_of_teacher(opened), "teacher")
    return opened
