"""The command `armada cache browse`: a gallery on this machine's own address, or in a folder."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from pipelines.commands.cache import Url

if TYPE_CHECKING:
    from teacher_cache import Cache

PORT = 8642


def browse(
    url: Url,
    static: Annotated[
        Optional[Path], typer.Option("--static", help="Write pages into this folder that open without a server.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to serve; 0 for a free one.")] = PORT,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
) -> None:
    """Look at prompts and pictures in the browser: search, failures, nearest neighbours, coverage, cost."""
    from teacher_cache import ArmadaError, Cache

    cache = Cache(url)
    if static is not None:
        from pipelines.gallery.static_export import export_gallery

        exported = export_gallery(cache, static)
        typer.echo(f"{exported.rows} rows, {exported.pictures} pictures: {static / 'index.html'}")
        if exported.unreadable:
            raise ArmadaError(
                f"{cache.store}: {exported.unreadable} pictures can't be read; their pages say why. "
                f"Mend them by: armada cache verify {cache.store} --repair, and the build again"
            )
        return
    _serve(cache, port, opens=not no_open and sys.stdout.isatty())


def _serve(cache: Cache, port: int, *, opens: bool) -> None:
    from uvicorn import Config, Server

    from pipelines.gallery.server import make_app
    from teacher_cache import ArmadaError

    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ArmadaError(
            f"--port {port}: expected a free port of 127.0.0.1, found: {error.strerror}; "
            "take another one, or --port 0 for one that is free"
        ) from None
    with listening:
        # asyncio does so only for sockets that it makes itself; without it every answer waits 40 ms for an ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = make_app(cache)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        typer.echo(address)
        sys.stdout.flush()
        typer.echo("Ctrl-C ends it", err=True)
        if opens:
            _show(address)
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


def _show(address: str) -> None:
    """Open the browser, but for one that would take this terminal from the server that it waits for."""
    with contextlib.suppress(webbrowser.Error):  # there is none
        if type(webbrowser.get()) is not webbrowser.GenericBrowser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
