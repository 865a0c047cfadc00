"""The command `armada cache browse`: serve a gallery on the loopback address, or export it to a folder."""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from pipelines.commands.options import Url

if TYPE_CHECKING:
    from teacher_cache import Cache

PORT = 8642
_WAIT_S = 1.0


def browse(
    url: Url,
    static: Annotated[
        Optional[Path], typer.Option("--static", help="Write the pages into this folder; they open without a server.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to serve on; 0 picks a free one.")] = PORT,
    follow: Annotated[
        bool, typer.Option("--follow", help="Begin with a live page of how the builds go; waits for the first one.")
    ] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
) -> None:
    """Show prompts and pictures in the browser: search, failures, nearest neighbours, coverage, cost."""
    from teacher_cache import ArmadaError, Cache

    cache = Cache(url)
    if static is not None and follow:
        raise ArmadaError("--follow: expected no --static beside it; exported pages don't change")
    if static is not None:
        from pipelines.gallery.static_export import export_gallery

        exported = export_gallery(cache, static)
        typer.echo(f"{exported.rows} rows, {exported.pictures} pictures: {static / 'index.html'}")
        if exported.unreadable:
            raise ArmadaError(
                f"{cache.store}: {exported.unreadable} pictures can't be read; each picture's page shows the error. "
                f"Repair the cache: armada cache verify {shlex.quote(str(cache.store))} --repair, then run "
                "the build again"
            )
        return
    if follow:
        _wait_for_a_teacher(cache)
    _serve(cache, port, opens=not no_open and sys.stdout.isatty(), follows=follow)


def _wait_for_a_teacher(cache: Cache) -> None:
    """Wait until a build has begun to draw into a cache that is empty."""
    if not cache.teachers():
        typer.echo(f"{cache.store}: no teacher has drawn into this cache yet; waiting for a build to begin", err=True)
    while not cache.teachers():
        time.sleep(_WAIT_S)


def _serve(cache: Cache, port: int, *, opens: bool, follows: bool) -> None:
    from uvicorn import Config, Server

    from pipelines.gallery.server import make_app
    from teacher_cache import ArmadaError

    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ArmadaError(
            f"--port {port}: expected a free port of 127.0.0.1, found: {error.strerror}; "
            "choose another port, or --port 0 for any free one"
        ) from None
    with listening:
        # asyncio sets this only on sockets that it creates; without it every response waits 40 ms for an ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = make_app(cache, follows=follows)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/{'live' if follows else ''}"
        typer.echo(address)
        sys.stdout.flush()
        typer.echo("press Ctrl-C to stop", err=True)
        if opens:
            _open_browser(address)
        config = Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=1,
        )
        with contextlib.suppress(KeyboardInterrupt):
            Server(config).run(sockets=[listening])


def _open_browser(address: str) -> None:
    """Open the browser in the background, unless it runs in the terminal: it would take the terminal over."""
    with contextlib.suppress(webbrowser.Error):  # no browser is installed
        if type(webbrowser.get()) is not webbrowser.GenericBrowser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
