"""Threads that work on one item after the other, with as little overhead per item as threads allow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Generic[Item, Result]):
    """Up to `count` threads that call `work`. Use it as a context manager, which waits for the items that were put."""

    def __init__(self, count: int, work: Callable[[Item], Result], name: str) -> None:
        self._count, self._work, self._name = count, work, name
        self._items: SimpleQueue[tuple[Item] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Result] | BaseException] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending = 0  # items without a result yet

    def __enter__(self) -> Workers[Item, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._items.put(None)
        for thread in self._threads:
            thread.join()

    def put(self, item: Item) -> None:
        """Let a thread work on an item."""
        self._pending += 1
        if len(self._threads) < min(self._count, self._pending):
            thread = threading.Thread(target=self._run, name=f"{self._name} {len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        self._items.put((item,))

    def get(self) -> Result:
        """Wait for the next result, in the order in which they are ready. Raises what `work` raised."""
        self._pending -= 1
        result = self._done.get()
        if isinstance(result, BaseException):
            raise result
        return result[0]

    @property
    def ready(self) -> int:
        """The number of results that are ready."""
        return self._done.qsize()

    def _run(self) -> None:
        while item := self._items.get():
            try:
                self._done.put((self._work(item[0]),))
            except BaseException as error:
                self._done.put(error)
