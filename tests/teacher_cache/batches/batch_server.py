"""A stand-in for the Files and Batch API on the loopback interface, over a `Provider`."""

from __future__ import annotations

import email
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.teacher_cache.batches.provider import Provider
from tests.teacher_cache.loopback import LoopbackHandler, LoopbackServer, running


class BatchServer(Provider, LoopbackServer):
    """A provider that is reached by HTTP."""

    def __init__(self, faults: Sequence[str] = ()) -> None:
        LoopbackServer.__init__(self, _Handler)
        Provider.__init__(self, faults)


class _Handler(LoopbackHandler):
    server: BatchServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        body = self.read_body()
        server, url = self.server, urlsplit(self.path)
        with server.lock:
            server.requests.append((method, url.path))
            server.queries.append(url.query)
            server.keys.add(self.headers.get("authorization", ""))
            if server.away > 0:
                server.away -= 1
                self.send(503, {"error": {"message": f"away; {self.headers.get('authorization')}"}})
                return
            if server.has_no_batches:
                self.send(400, {"error": {"message": f"no batches for {self.headers.get('authorization')}"}})
                return
            parts = url.path.removeprefix("/v1/").split("/")
            if parts[0] == "files":
                self._file(method, parts[1:], body)
            else:
                self._batch(method, parts[1:], body, {name: values[0] for name, values in parse_qs(url.query).items()})

    def _file(self, method: str, parts: list[str], body: bytes) -> None:
        files = self.server.files
        if method == "POST":
            kind = self.headers["content-type"].encode()
            message = email.message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + body)
            fields = {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}
            assert fields["purpose"].get_payload(decode=True) == b"batch"
            data = fields["file"].get_payload(decode=True)
            self.send(200, _shown(files[self.server.add_file(fields["file"].get_filename(), data, "batch")]))
        elif not parts:
            self.send(200, {"object": "list", "data": [_shown(file) for file in files.values()], "has_more": False})
        elif parts[0] not in files:
            self.send(404, {"error": {"message": "No such File object"}})
        elif method == "DELETE":
            del files[parts[0]]
            self.send(200, {"id": parts[0], "deleted": True})
        elif len(parts) == 1:
            self.send(200, _shown(files[parts[0]]))
        else:
            self._content(files[parts[0]]["data"])

    def _content(self, data: bytes) -> None:
        first, last, status, headers = 0, len(data) - 1, 200, {}
        if self.server.has_ranges and (wanted := self.headers.get("range")):
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
            if first >= len(data):
                self.send(416, {})
                return
            status, headers = 206, {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        part = data[first : last + 1]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(part))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.cuts and len(part) > 1:
            self.server.cuts -= 1
            part, self.close_connection = part[: len(part) // 2], True
        self.server.downloaded += len(part)
        self.wfile.write(part)

    def _batch(self, method: str, parts: list[str], body: bytes, query: dict[str, str]) -> None:
        server = self.server
        if method == "POST" and not parts:
            self._create(json.loads(body))
        elif not parts:
            newest = [_shown(batch) for batch in reversed(server.batches.values())]
            places = [place for place, batch in enumerate(newest) if batch["id"] == query.get("after")]
            rest = newest[places[0] + 1 :] if places else newest
            page = rest[: min(3, int(query["limit"]))]  # short pages, so that clients must ask for the next one
            self.send(200, {"object": "list", "data": page, "has_more": len(rest) > len(page)})
        elif parts[0] not in server.batches:
            self.send(404, {"error": {"message": "No such batch"}})
        elif method == "POST":
            server.batches[parts[0]]["status"] = "cancelling"
            self.send(200, _shown(server.batches[parts[0]]))
        else:
            server.step(server.batches[parts[0]])
            self.send(200, _shown(server.batches[parts[0]]))

    def _create(self, facts: dict[str, Any]) -> None:
        if self.server.refusal:
            self.send(*self.server.refusal)
            return
        made = self.server.make(facts)
        if len(self.server.batches) in self.server.unheard:
            self.close_connection = True
            return
        self.send(200, _shown(made))


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    hidden = ("data", "fault", "looked", "lines", "held_back")
    return {name: value for name, value in facts.items() if name not in hidden}


def serving(*faults: str) -> AbstractContextManager[BatchServer]:
    """Yield a running server whose batches have these faults."""
    return running(BatchServer(faults))
