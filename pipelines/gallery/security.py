"""What stands before the gallery's server: other methods than GET are refused, and every answer, an error's too, tells
the browser to run our own script alone and to ask no other host.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class SecurityMiddleware:
    """Refuses all but GET and HEAD, and puts the safe headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = list(message.get("headers", []))
                given = {name.lower() for name, _ in headers}
                safe = ((name.lower().encode(), value.encode()) for name, value in _HEADERS.items())
                message["headers"] = headers + [(name, value) for name, value in safe if name not in given]
            await send(message)

        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            refusal = PlainTextResponse("only GET is answered here", 405, {"Allow": "GET, HEAD"})
            await refusal(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)
