"""The teacher and the encoder that a command needs by name; a cache says how to name its own, and nothing opens it."""

from __future__ import annotations


def both_named(url: str, teacher: str | None, encoder: str | None) -> tuple[str, str]:
    """Return the specs of a teacher and an encoder.

    Raise ArmadaError if the user has not named both, with the words that name those of the cache, if there is one.
    """
    from teacher_cache import ArmadaError, Cache, NoCacheError, spec_to_type

    if teacher is not None and encoder is not None:
        return teacher, encoder
    lacking = "--teacher" if teacher is None else "--encoder"
    try:
        cache = Cache(url)
    except NoCacheError:
        raise ArmadaError(
            f"{lacking} SPEC is missing, for example --teacher pictogram --encoder efficientnet-lite0"
        ) from None
    typed = [
        f"--teacher {spec_to_type(one)} --encoder {spec_to_type(other)}"
        for one in cache.teachers()
        for other in cache.encoders(one)
    ]
    there = f"; {url} has: {' or '.join(typed)}" if typed else ""
    raise ArmadaError(f"{lacking} SPEC is missing{there}")
