"""Teachers: black boxes that turn a prompt into a picture. Only pictures that the cache lacks are requested.

`draw` pulls requests when it has room for them and yields one answer per request, in any order. Every request that was
pulled counts as a call, so a teacher must not pull a request that it cannot send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from teacher_cache.errors import SpecError
from teacher_cache.format.recipes import FIELD, Recipe, make_recipe
from teacher_cache.format.sources import Source
from teacher_cache.keys import spec_digest
from teacher_cache.registry.recipe_options import TEMPLATE, take_recipe
from teacher_cache.registry.specs import load, parse_spec
from teacher_cache.teachers.prices import check_price

PRESETS = ("vllm-omni", "sglang", "localai", "together", "xai", "azure", "bfl")  # those of providers/presets.yaml
BUILT_IN = {
    "pictogram": "teacher_cache.teachers.pictogram:Pictogram",
    "diffusers": "teacher_cache.teachers.diffusers_pipeline:DiffusersPipeline",
    "openai": "teacher_cache.teachers.openai_images:OpenAIImages",
    "openai-batch": "teacher_cache.batches.teacher:OpenAIBatch",
    "folder": "teacher_cache.teachers.folder:Folder",
    "litellm": "teacher_cache.teachers.providers.litellm_images:LiteLLMImages",
    **{name: "teacher_cache.teachers.openai_images:OpenAIImages" for name in PRESETS},
}
REWRITERS = {"openai": "teacher_cache.rewriting.chat:ChatRewriter"}
REASONS = ("transient", "permanent", "refused", "blank", "undecodable")


@dataclass(frozen=True)
class Request:
    """One picture to draw. `seed` (63 bits) is derived from the image key, so that each picture has its own. `prompt`
    is what is drawn: the row's text, or what the teacher's recipe makes of it."""

    image_key: str
    prompt: str
    sample: int
    seed: int


@dataclass(frozen=True)
class Picture:
    """An encoded picture. `suffix` is that of its format (png, jpg, webp, gif, avif or tif), but its bytes decide.
    `cost_usd` is None if the teacher has no price; `where` names the file that it was read from, for messages."""

    image_key: str
    data: bytes
    suffix: str
    cost_usd: float | None = None
    seconds: float = 0.0
    where: str = ""


@dataclass(frozen=True)
class Failure:
    """A request that yielded no picture. `reason` is one of REASONS, `message` explains it to the user. If
    `retry_after_s` is set, the build sends the request again, after that many seconds at the earliest.

    `turned_away`: the server did not take the request, for a cause that is not the prompt's (a limit on requests, no
    connection, no money). The same call is sent again: it counts neither as a call nor as an attempt, and its picture
    stays missing if the build stops before."""

    image_key: str
    reason: str
    message: str
    cost_usd: float | None = None
    seconds: float = 0.0
    retry_after_s: float | None = None
    turned_away: bool = False


class Teacher(Protocol):
    """The interface of a teacher. `spec` contains every setting that changes a picture, and no other, but for the
    recipe of its prompts, which `open_teacher` sets as `recipe` and `rewriter`, and no teacher needs to know.

    `licence` is that of the pictures, `price_usd` the dollars per call; None if it is unknown or there is none.

    Optional attributes: `deterministic = True` promises the same bytes for the same request, which `verify --recompute`
    checks; `concurrency` is the largest number of requests in flight; `if_identical` is what to do if it gives one
    picture for several samples of a prompt; `window` is how much of a prompt the teacher reads, a PromptWindow
    (prompt_window.py).
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

    Raises SpecError if the spec names no known teacher or has an unknown option, or if the teacher lacks an attribute
    of the interface or has a price that is none.
    """
    spec, template, rewrite = take_recipe(parse_spec(text))
    teacher: Any = load("teacher", BUILT_IN, spec)
    if lacking := [name for name in ("spec", "licence", "price_usd", "draw") if not hasattr(teacher, name)]:
        raise SpecError(f"{text}: the teacher has no {lacking[0]}; expected the attributes of teacher_cache.Teacher")
    teacher.rewriter = open_rewriter(rewrite) if rewrite else None
    source = source_of_rewriter(teacher.rewriter) if rewrite else None
    teacher.recipe = make_recipe(template, f"{text}: {TEMPLATE}", source)
    source_of_teacher(teacher)
    opened: Teacher = teacher
    return opened


def open_rewriter(text: str) -> Any:
    """Return the rewriter (rewriting/__init__.py) that a spec names; it is asked nothing before its first text.

    Raises SpecError if the spec names none, has an unknown option, or the rewriter lacks an attribute of the interface.
    """
    rewriter = load("rewriter", REWRITERS, parse_spec(text))
    if lacking := [name for name in ("spec", "price_usd", "rewrite") if not hasattr(rewriter, name)]:
        raise SpecError(f"{text}: the rewriter has no {lacking[0]}; expected the attributes of teacher_cache.Rewriter")
    source_of_rewriter(rewriter)
    return rewriter


def source_of_rewriter(rewriter: Any) -> Source:
    """Return the record of a rewriter that the cache stores; see `source_of_teacher`."""
    text = str(getattr(rewriter, "text", ""))
    price = None if rewriter.price_usd is None else check_price(text or "the rewriter", rewriter.price_usd)
    try:
        return Source(dict(rewriter.spec), spec_digest(rewriter.spec), {"price_usd": price, "text": text})
    except (TypeError, ValueError) as error:
        raise SpecError(f"{text}: the rewriter's spec can't be written as JSON: {error}") from None


def source_of_teacher(teacher: Teacher) -> Source:
    """Return the record of a teacher that the cache stores. Its `text` is shown to users; nothing is opened by it.

    Its spec includes the recipe of its prompts, if they are not the texts themselves.

    Raises SpecError if the price is negative, infinite or no number, or if the spec is no JSON.
    """
    text = str(getattr(teacher, "text", ""))
    facts = {
        "licence": teacher.licence,
        "price_usd": None if teacher.price_usd is None else check_price(text or "the teacher", teacher.price_usd),
        "deterministic": getattr(teacher, "deterministic", False),
        "text": text,
    }
    recipe: Recipe = getattr(teacher, "recipe", None) or Recipe()
    try:
        spec = {**teacher.spec, FIELD: recipe.spec} if recipe.spec else teacher.spec
        return Source(spec, spec_digest(spec), facts)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{text}: the teacher's spec can't be written as JSON: {error}") from None
