"""Pictures that a build would draw again, because its teacher has another address, name or revision than the one that
drew them.
"""

from __future__ import annotations

from urllib.parse import quote

from teacher_cache.building.plan import Plan
from teacher_cache.format.sources import Source
from teacher_cache.keys import prompt_key
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import prompt_index

# The parts of a spec that say where a teacher is or what it is called, and the option that sets each of them.
_OPTIONS = {"endpoint": "as", "server": "as", "name": "name", "revision": "revision"}


def redraw_notes(cache: Cache, teacher: Source, plan: Plan) -> list[str]:
    """Return a sentence for each teacher of the cache that is this one but for its address, name or revision, and that
    has drawn prompts that the plan requests: how many, and the option that uses its pictures."""
    notes = []
    for other in cache.teachers() if plan.calls else []:
        fields = {*other.spec, *teacher.spec}
        differing = {name for name in fields if other.spec.get(name) != teacher.spec.get(name)}
        if not differing or not differing <= set(_OPTIONS):
            continue
        known = prompt_index(cache, other)
        count = known.count(prompt_key(text) for text in plan.requests.texts(plan.wanted))
        if not count:
            continue
        values = {_OPTIONS[name]: str(other.spec[name]) for name in sorted(differing) if name in other.spec}
        changes = [f"{option}={quote(value, safe=':/')}" for option, value in values.items()]
        changes += [f"no {option}=" for option in sorted({_OPTIONS[name] for name in differing} - set(values))]
        shown = ", ".join(repr(value[:100]) for value in values.values()) or "no name"
        notes.append(
            f"{count} of the {plan.calls} pictures to draw are in the cache already, drawn by this teacher under "
            f"another address, name or revision ({shown}); to use them, write {' and '.join(changes)} in the spec"
        )
    return notes
