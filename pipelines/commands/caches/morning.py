"""The end of `armada cache build`: its report page and its notification, however the build ends.

Neither can fail a build: what goes wrong with them is one warning.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from pipelines.commands.interrupts import stop_on_signal

if TYPE_CHECKING:
    from pipelines.night.notification import Notifier
    from teacher_cache import BuildReport, Cache, Encoder, Requests, Teacher

NOTIFY_VARIABLE = "ARMADA_NOTIFY"
Notify = Annotated[
    Optional[str],
    typer.Option(
        "--notify",
        metavar="URL",
        envvar=NOTIFY_VARIABLE,
        show_envvar=False,
        help="Post a JSON to this address at the end, at the budget and on an error; also by the environment variable "
        f"{NOTIFY_VARIABLE}, where no list of processes shows it.",
    ),
]
Report = Annotated[
    Optional[str],
    typer.Option("--report", metavar="FILE", help="Where the report page is written; none leaves it out."),
]
Watch = Annotated[bool, typer.Option("--watch", help="Show how the builds of this host go, until none runs any more.")]
Every = Annotated[float, typer.Option("--every", min=0.2, metavar="SECONDS", help="With --watch: how often to look.")]
_NOTIFIERS: dict[str, Notifier] = {}  # one per address, so that a build posts once


def notifies_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that posts its error to its `notify`, before it raises it, unless something was posted."""

    @functools.wraps(command)
    def checked(*args: Any, **options: Any) -> None:
        notifier = notifier_of(options["notify"])
        try:
            command(*args, **options)
        except typer.Exit:
            raise
        except BaseException as error:
            if notifier and not notifier.has_posted:
                from pipelines.night.notification import of_error
                from teacher_cache import host_name, redact

                cache, prompts = redact(options["cache"]), options["prompts"]
                _warn(notifier.post(of_error(error, cache, prompts, host_name())))
            raise

    return checked


def notifier_of(url: str | None) -> Notifier | None:
    """Return the notifier of an address. Raise ArmadaError if it is none."""
    if not url:
        return None
    from pipelines.night.notification import Notifier

    return _NOTIFIERS.setdefault(url, Notifier(url))


def run_build(
    run: Callable[[Callable[[], bool]], BuildReport],
    cache: Cache,
    requests: Requests,
    teacher: Teacher,
    encoder: Encoder,
    prompts: str,
    notify: str | None,
    report: str | None,
) -> tuple[BuildReport, Path | None]:
    """Build by `run`, whose argument tells it to stop; write the page and notify. Return the build's report and where
    the page is; None if there is none.

    Raise the build's error, after the page is written and the error is posted.
    """
    import jinja2  # noqa: F401  # before the build, as what follows: an interrupted one ends at once

    import pipelines.night.notification  # noqa: F401
    from pipelines.night.page import page_path

    build, notifier = _Build(cache, requests, teacher, encoder, prompts, time.time()), notifier_of(notify)
    path = page_path(cache, report, build.started)
    try:
        found = run(stop_on_signal())
    except Exception as error:
        code = int(getattr(error, "exit_code", 1))
        ended = replace(build, error=str(error) or type(error).__name__, error_code=code)
        if page := _finish(ended, path, notifier, is_own=report is None):
            typer.echo(f"report: {page}", err=True)
        raise
    return found, _finish(replace(build, found=found), path, notifier, is_own=report is None)


def watch_cache(url: str, every_s: float, as_json: bool) -> None:
    """Show in the terminal how the builds of this host on a cache go, until none runs. Ctrl-C ends it with 130."""
    from rich.console import Console

    from pipelines.night.progress import Watcher
    from pipelines.night.terminal import watch
    from teacher_cache import ArmadaError, Cache

    if as_json:
        raise ArmadaError("--watch: expected no --json beside it; a script reads status --json as often as it likes")
    watch(Watcher(Cache(url)), every_s, Console())


@dataclass(frozen=True)
class _Build:
    """A build, and how it has ended: with a report, or with an error."""

    cache: Cache
    requests: Requests
    teacher: Teacher
    encoder: Encoder
    prompts: str
    started: float
    found: BuildReport | None = None
    error: str = ""
    error_code: int = 2


def _finish(build: _Build, path: Path | None, notifier: Notifier | None, *, is_own: bool) -> Path | None:
    """Write the page and notify. Return where the page is; None if it could not be written, or nobody wants it.

    An error before the build has begun to work (a wrong option, an incomplete cache) is posted, and needs no page.
    """
    if path is None and notifier is None:
        return None
    from pipelines.night.facts import gather, has_begun
    from pipelines.night.notification import of_error, of_night, of_report
    from pipelines.night.page import write_page
    from teacher_cache import ArmadaError, host_name

    facts: dict[str, Any] | None = None
    written: Path | None = None
    try:
        if build.found or has_begun(build.cache, build.started):
            night = gather(
                build.cache,
                build.requests,
                build.teacher,
                build.encoder,
                build.found,
                prompts=build.prompts,
                words=sys.argv[1:],
                started=build.started,
                error=build.error,
                error_code=build.error_code,
                looks=path is not None,
            )
            facts = of_night(night, "")
            if path is not None:
                write_page(night, path, is_own=is_own)
                facts, written = of_night(night, str(path)), path
    except Exception as problem:  # the build is over, and what it made is safe
        _warn(f"the report page was not written: {problem or type(problem).__name__}")
    if notifier:
        if facts is None:
            about = str(build.cache.store), build.prompts, host_name()
            error = ArmadaError(build.error)
            facts = of_report(build.found, *about) if build.found else of_error(error, *about, build.error_code)
        _warn(notifier.post(facts))
    return written


def _warn(message: str) -> None:
    from pipelines.night.redaction import clean

    if message:
        typer.echo(f"warning: {clean(message)}", err=True)
