"""Teachers: black boxes that turn a prompt into a picture. Only pictures that the cache lacks are requested.

`draw` pulls requests when it has room for them and yields one answer per request, in any order. Every request that was
pulled counts as a call, so a teacher must not pull a request that it cannot send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from teacher_cache.format.sources import Source, check_same
from teacher_cache.keys import spec_digest
from teacher_cache.registry.specs import load, parse_spec

BUILT_IN = {
    "pictogram": "teacher_cache.teachers.pictogram:Pictogram",
    "diffusers": "teacher_cache.teachers.diffusers_pipeline:DiffusersPipeline",
    "openai": "teacher_cache.teachers.openai_images:OpenAIImages",
    "folder": "teacher_cache.teachers.folder:Folder",
}
REASONS = ("transient", "permanent", "refused", "blank", "undecodable")


@dataclass(frozen=True)
class Request:
    """One picture to draw. `seed` (63 bits) is derived from the image key, so that each picture has its own."""

    image_key: str
    prompt: str
    sample: int
    seed: int


@dataclass(frozen=True)
class Picture:
    """An encoded picture. `suffix` is that of its format (png, jpg, webp, gif, avif or tif); `cost_usd` is None if the
    teacher has no price; `where` names the picture in messages about it, if it was read from a file."""

    image_key: str
    data: bytes
    suffix: str
    cost_usd: float | None = None
    seconds: float = 0.0
    where: str = ""


@dataclass(frozen=True)
class Failure:
    """A request that yielded no picture. `reason` is one of REASONS, `message` explains it to the user. If
    `retry_after_s` is set, the build sends the request again, after that many seconds at the earliest."""

    image_key: str
    reason: str
    message: str
    cost_usd: float | None = None
    seconds: float = 0.0
    retry_after_s: float | None = None


class Teacher(Protocol):
    """The interface of a teacher. `spec` contains every setting that changes a picture, and no other.

    Optional attributes: `deterministic = True` promises the same bytes for the same request, which `verify --recompute`
    checks; `concurrency` is the largest number of requests in flight.
    """

    spec: Mapping[str, Any]
    licence: str  # of the pictures, as text or as a link
    price_usd: float | None  # per call; None if it is unknown or the teacher is free of charge

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request.

        Raises ArmadaError if no request can succeed (a wrong key, an unknown model): the build stops, and pictures
        that were drawn before are kept.
        """
        ...


def open_teacher(text: str) -> Teacher:
    """Return the teacher that a spec names; its model is loaded at its first request.

    Raises SpecError if the spec names no known teacher or has an unknown option.
    """
    teacher: Teacher = load("teacher", BUILT_IN, parse_spec(text))
    return teacher


def source_of_teacher(teacher: Teacher) -> Source:
    """Return the record of a teacher that the cache stores."""
    facts = {
        "licence": teacher.licence,
        "price_usd": teacher.price_usd,
        "deterministic": getattr(teacher, "deterministic", False),
        "text": getattr(teacher, "text", ""),
    }
    return Source(teacher.spec, spec_digest(teacher.spec), facts)


def same_teacher(source: Source) -> Teacher:
    """Open the teacher of a source again, by the text of its spec. Raises SpecError if that text names another teacher
    now."""
    opened = open_teacher(str(source.facts.get("text")))
    check_same(source, source_of_teacher(opened), "teacher")
    return opened
