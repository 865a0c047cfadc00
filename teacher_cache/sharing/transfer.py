"""Transfers: files from store to store, many at once, each compared with its digest at both ends.

A cut connection is tried again. Damaged and vanished files are named and do not stop the others; a store that refuses
everything does. What has arrived stays, so that the same command continues.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from teacher_cache.errors import ArmadaError, CacheError, NoFileError, missing_file, repair_hint
from teacher_cache.files.atomic_files import sync_files
from teacher_cache.files.disk import DiskFullError
from teacher_cache.files.store import Store
from teacher_cache.files.store_errors import UnavailableStoreError, WrongBytesError
from teacher_cache.format.commits import Shard
from teacher_cache.registry.packages import file_digest, stream_digest

THREADS = 32  # requests in flight to an object store
LOCAL_THREADS = 4
TRIES = 4
FILES_PER_CALL = 500  # that wait on this machine for one call to the Hub


Item = TypeVar("Item")


def send_files(
    source: Store, target: Store, files: Sequence[Shard], done: Callable[[Shard], object], message: str
) -> dict[str, str]:
    """Send files, and call `done` with each that has arrived. Return those that have not, each with the reason.

    Raise UnavailableStoreError if a store refuses everything, DiskFullError if there is no room.
    """
    if target.hub:
        return _send_to_hub(source, target, files, done, message)
    failed = each(files, lambda file: _send(source, target, file), done, threads_between(source, target))
    if source.is_local:  # before the commits that name them; what a power failure takes of a download is fetched again
        arrived = [target.local_path(file.path) for file in files if file.path not in failed]
        sync_files(path for path in arrived if path)
    return failed


def send_bytes(target: Store, files: Iterable[tuple[str, bytes]], done: Callable[[str], object], message: str) -> None:
    """Send small files, by name, and call `done` with the name of each that has arrived. Raise CacheError if one can't
    be sent: then it may be sent again."""
    if target.hub:
        with target.draft() as place:
            paths = []
            for number, (name, data) in enumerate(files):
                paths.append((place.with_name(f"file-{number}"), name))
                paths[-1][0].write_bytes(data)
            if paths:
                retried(lambda: target.publish_all(paths, message))
            for _, name in paths:
                done(name)
        return
    by_name = dict(files)
    failed = each(
        list(by_name),
        lambda name: target.write(name, by_name[name]),
        done,
        LOCAL_THREADS if target.is_local else THREADS,
        str,
    )
    for name, reason in failed.items():
        raise CacheError(f"{target}/{name}: {reason}; run the same command again, which continues")


def each(
    items: Sequence[Item],
    function: Callable[[Item], object],
    done: Callable[[Item], object],
    threads: int,
    name: Callable[[Item], str] = lambda item: getattr(item, "path", str(item)),
) -> dict[str, str]:
    """Call a function with each item, in their order, several at once, and `done` in this thread with those that
    succeed. Return the names of the others, each with the reason.

    No item is started after an error that all would have, which is raised.
    """
    failed: dict[str, str] = {}
    stopped = threading.Event()

    def run(item: Item) -> None:
        if not stopped.is_set():
            retried(lambda: function(item), stopped)

    with ThreadPoolExecutor(threads, "armada-transfer") as pool:
        try:
            for item, future in _submitted(pool, run, items, 4 * threads):
                try:
                    future.result()
                    done(item)
                except (UnavailableStoreError, DiskFullError):
                    raise
                except ArmadaError as error:
                    failed[name(item)] = str(error)
        except BaseException:
            stopped.set()
            raise
    return failed


def retried(function: Callable[[], object], stopped: threading.Event | None = None, pause_s: float = 0.2) -> None:
    """Call a function up to TRIES times, as long as another try may succeed."""
    for number in range(TRIES):
        try:
            function()
            return
        except (UnavailableStoreError, DiskFullError, NoFileError):
            raise
        except CacheError as error:
            is_last = number == TRIES - 1 or (isinstance(error, WrongBytesError) and number)
            if is_last or (stopped and stopped.is_set()):
                raise
            time.sleep(pause_s * 2**number)


def threads_between(source: Store, target: Store) -> int:
    """Return how many files to copy at once."""
    return LOCAL_THREADS if source.is_local and target.is_local else THREADS


def _submitted(
    pool: ThreadPoolExecutor, run: Callable[[Item], None], items: Sequence[Item], ahead: int
) -> Iterator[tuple[Item, Future[None]]]:
    """Start items in their order, at most `ahead` before one has ended, and yield each when it ends."""
    waiting: dict[Future[None], Item] = {}
    rest = iter(items)
    while True:
        for item in rest:
            waiting[pool.submit(run, item)] = item
            if len(waiting) >= ahead:
                break
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future


def _send(source: Store, target: Store, file: Shard) -> None:
    with _checked(source, target, file) as path:
        target.publish(path, file.path, file.sha256, durable=False)
    if not target.checks_puts:
        with target.open(file.path) as stream:
            if stream_digest(stream) != file.sha256:
                raise CacheError(f"{target}/{file.path}: the store has other bytes than were sent")


@contextmanager
def _checked(source: Store, target: Store, file: Shard) -> Iterator[Path]:
    """Yield a local path with the bytes of a file, which is to be published: where the target is an object store, it
    compares them with the digest itself."""
    local = source.local_path(file.path)
    if local and not target.is_local:
        yield local
        return
    with target.draft() as draft:
        _fetch(source, file, draft)
        yield draft


def _fetch(source: Store, file: Shard, path: Path) -> Path:
    """Copy a file to a local path, and compare it with its digest."""
    source.copy_to(file.path, path, file.bytes)
    return _compared(source, file, path)


def _compared(source: Store, file: Shard, path: Path) -> Path:
    if not path.exists():
        raise missing_file(f"{source}/{file.path}")
    if path.stat().st_size != file.bytes or file_digest(path) != file.sha256:
        mend = repair_hint(build_again=False)
        raise WrongBytesError(f"{source}/{file.path}: sha256 differs from the commit's; {mend} there")
    return path


def _send_to_hub(
    source: Store, target: Store, files: Sequence[Shard], done: Callable[[Shard], object], message: str
) -> dict[str, str]:
    """Send files in calls of many; those of a remote source are on this machine until their call has ended."""
    failed: dict[str, str] = {}
    size = max(len(files), 1) if source.is_local else FILES_PER_CALL
    for start in range(0, len(files), size):
        part = files[start : start + size]
        paths: dict[str, Path] = {}
        with target.draft() as place:

            def check(file: Shard, place: Path = place, paths: dict[str, Path] = paths) -> None:
                local = source.local_path(file.path)
                fetched = place.with_name(file.sha256)
                paths[file.path] = _compared(source, file, local) if local else _fetch(source, file, fetched)

            failed |= each(part, check, lambda file: None, threads_between(source, target))
            ready = [file for file in part if file.path in paths]
            if ready:
                sent = [(paths[file.path], file.path) for file in ready]
                retried(lambda sent=sent: target.publish_all(sent, message))  # type: ignore[misc]
        for file in ready:
            done(file)
    return failed
