"""Turns for train_step.py: several training loops in one process take one step at a time, each on the clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


class Turns:
    """Let several training loops, each in a thread of its own, take one step at a time.

    `seconds` is (rounds, sides); each round has its own random order of the sides.
    """

    def __init__(self, sides: int, rounds: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = np.zeros((rounds, sides))
        order = np.random.default_rng(0)
        self._turns = [(number, int(side)) for number in range(rounds) for side in order.permutation(sides)]
        self._place = 0
        self._started = 0.0
        self._changed = threading.Condition()

    def wait(self, side: int) -> None:
        """Block until it is this side's turn, then start its clock."""
        with self._changed:
            self._changed.wait_for(lambda: self._place == len(self._turns) or self._turns[self._place][1] == side)
            self._started = self._clock()

    def end(self) -> None:
        """Let every side run to its end without timing, after one of them has failed."""
        with self._changed:
            self._place = len(self._turns)
            self._changed.notify_all()

    def done(self, side: int) -> None:
        """Record the step's time, pass the turn on, and wait for the next one."""
        with self._changed:
            if self._place < len(self._turns):
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self.seconds[self._turns[self._place][0], side] = self._clock() - self._started
                self._place += 1
                self._changed.notify_all()
        self.wait(side)


def run_in_turn(turns: Turns, sides: list[Callable[[], Any]]) -> None:
    """Run every side in a thread of its own. Raise the first error of a side."""
    errors: list[BaseException] = []

    def run(side: Callable[[], Any]) -> None:
        try:
            side()
        except BaseException as error:
            errors.append(error)
            turns.end()

    threads = [threading.Thread(target=run, args=(side,)) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
