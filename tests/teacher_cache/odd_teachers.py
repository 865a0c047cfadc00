"""Teachers as a user may write them, each with one oddity. Their specs are `tests.teacher_cache.odd_teachers:NAME`."""

from __future__ import annotations

import dataclasses

from teacher_cache import Failure, Picture
from tests import fakes


class Free(fakes.FakeTeacher):
    """Its price is a word."""

    def __init__(self, spec):
        super().__init__(spec)
        self.price_usd = "free"


class Odd(fakes.FakeTeacher):
    """Changes each answer by `change`, a function from a picture to a list of answers."""

    def __init__(self, change):
        super().__init__(fakes.Spec("fake", "", {}, "fake"))
        self._change = change

    def draw(self, requests):
        for answer in super().draw(requests):
            yield from self._change(answer)


def with_suffix(suffix):
    """Return a teacher that names its pictures' format oddly."""
    return Odd(lambda picture: [dataclasses.replace(picture, suffix=suffix)])


def answers_with(**facts):
    """Return a teacher whose pictures have other facts."""
    return Odd(lambda picture: [dataclasses.replace(picture, **facts)])


def twice():
    """Return a teacher that answers each request twice, the second time with another picture."""
    return Odd(lambda picture: [picture, Picture(picture.image_key, fakes.png(1), "png")])


def never(prompt_number):
    """Return a teacher that answers all requests but one."""
    seen = []

    def change(picture):
        seen.append(picture)
        return [] if len(seen) == prompt_number + 1 else [picture]

    return Odd(change)


def of_strangers():
    """Return a teacher that also answers what nobody requested."""
    return Odd(lambda picture: [Failure("f" * 64, "refused", "no"), picture])


class Lazy(fakes.FakeTeacher):
    """Draws `batch` pictures and ends, though more are requested."""

    def __init__(self, batch):
        super().__init__(fakes.Spec("fake", "", {}, "fake"))
        self._batch = batch

    def draw(self, requests):
        for number, answer in enumerate(super().draw(requests), 1):
            yield answer
            if number == self._batch:
                return
