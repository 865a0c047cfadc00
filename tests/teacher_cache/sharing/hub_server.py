"""A stand-in of the Hugging Face Hub's API on this host, for the library's own client.

It has what huggingface_hub 2.4 asks for buckets (info, tree, batch, resolve) and dataset repositories (info, preupload,
commit, tree, resolve). Not stood in for: the content store behind it (Xet), to which the library uploads large files by
a binary of its own: `FakeXet` takes its place, and dataset files are sent within the commit, as small ones are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

CREATED = "2026-01-01T00:00:00.000Z"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *words: Any) -> None:
        pass


class HubServer:
    """One bucket and one dataset repository, `team/cache`. `calls` are "METHOD path" of all writing requests.

    `revisions` are the states of the repository, oldest first; `refuse` are paths that a batch refuses.
    """

    def __init__(self) -> None:
        self.bucket: dict[str, bytes] = {}
        self.revisions: list[tuple[str, dict[str, bytes]]] = [("0" * 40, {})]
        self.batches: list[list[str]] = []
        self.commits: list[list[str]] = []
        self.status = 0
        self.refuse: set[str] = set()
        self.xet = FakeXet()
        self._server = make_server(
            "127.0.0.1", 0, Request.application(self._answer), threaded=True, request_handler=_Quiet
        )
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    def _answer(self, request: Request) -> Response:
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        if self.status:
            return _json({"error": "refused"}, self.status)
        if parts == ["api", "validate-yaml"]:
            return _json({"errors": [], "warnings": []})
        if parts[:1] == ["api"]:
            kind, name, rest = parts[1], "/".join(parts[2:4]), parts[4:]
        else:
            kind, name, rest = parts[0], "/".join(parts[1:3]), parts[3:]
        if name != "team/cache":
            return _json({"error": "not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        return self._of_bucket(request, rest) if kind == "buckets" else self._of_dataset(request, rest)

    def _of_bucket(self, request: Request, rest: list[str]) -> Response:
        if not rest:
            facts = {"id": "team/cache", "private": True, "createdAt": CREATED, "size": 0}
            return _json({**facts, "totalFiles": len(self.bucket)})
        if rest[0] == "tree":
            return _tree(self.bucket, "/".join(rest[1:]), request, lambda data: {"xetHash": None, "mtime": CREATED})
        if rest[0] == "resolve":
            return _content(self.bucket, "/".join(rest[1:]), request)
        failed = []
        operations = [json.loads(line) for line in request.get_data().splitlines()]
        for operation in operations:
            if operation["path"] in self.refuse:
                failed.append({"path": operation["path"], "error": "no"})
            elif operation["type"] == "addFile":
                self.bucket[operation["path"]] = self.xet.files[operation["xetHash"]]
            else:
                self.bucket.pop(operation["path"], None)
        self.batches.append([f"{operation['type']} {operation['path']}" for operation in operations])
        return _json({"success": not failed, "failed": failed})

    def _of_dataset(self, request: Request, rest: list[str]) -> Response:
        revision = rest[1] if len(rest) > 1 else "main"
        state = next((files for sha, files in self.revisions if sha == revision), None)
        if revision == "main":
            sha, state = self.revisions[-1]
        else:
            sha = revision
        if state is None:
            return _json({"error": "no revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        if not rest or rest[0] == "revision":
            return _json({"id": "team/cache", "sha": sha, "private": True, "tags": [], "downloads": 0, "likes": 0})
        if rest[0] == "preupload":
            files = json.loads(request.get_data())["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return _json({"files": modes})
        if rest[0] == "tree":
            return _tree(state, "/".join(rest[2:]), request, lambda data: {"oid": hashlib.sha1(data).hexdigest()})
        if rest[0] == "resolve":
            return _content(state, "/".join(rest[2:]), request)
        if rest[0] == "paths-info":
            last = {"id": sha, "title": "x", "date": CREATED}
            found = [path for path in request.form.getlist("paths") or request.get_json()["paths"] if path in state]
            facts = {"type": "file", "oid": "0" * 40, "lastCommit": last}
            return _json([{**facts, "path": path, "size": len(state[path])} for path in found])
        added = {}
        for line in request.get_data().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                added[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        self.commits.append(sorted(added))
        sha = hashlib.sha1(repr((len(self.revisions), sorted(added))).encode()).hexdigest()
        self.revisions.append((sha, {**state, **added}))
        return _json({"commitUrl": f"{self.url}/datasets/team/cache/commit/{sha}", "commitOid": sha})


class FakeXet:
    """Takes the place of `get_xet_session()`: uploads put bytes into `files`, by a hash."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    @contextmanager
    def new_upload_commit(self, **_: Any) -> Any:
        def upload(data: bytes) -> Any:
            digest = hashlib.sha256(data).hexdigest()
            self.files[digest] = data
            info = SimpleNamespace(hash=digest, file_size=len(data), sha256=digest)
            return SimpleNamespace(result=lambda: SimpleNamespace(xet_info=info))

        yield SimpleNamespace(
            start_upload_file=lambda path, **_: upload(Path(path).read_bytes()),
            start_upload_bytes=lambda data, **_: upload(data),
        )


def _json(facts: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(facts), status, headers, content_type="application/json")


def _content(files: dict[str, bytes], path: str, request: Request) -> Response:
    if path not in files:
        return _json({"error": "no file"}, 404, {"X-Error-Code": "EntryNotFound"})
    response = Response(files[path], content_type="application/octet-stream")
    response.headers["ETag"] = f'"{hashlib.sha1(files[path]).hexdigest()}"'
    return response.make_conditional(request, accept_ranges=True, complete_length=len(files[path]))


def _tree(files: dict[str, bytes], prefix: str, request: Request, facts: Any) -> Response:
    recursive = request.args.get("recursive", "").lower() == "true"
    start = f"{prefix}/" if prefix else ""
    found: dict[str, Any] = {}
    for path in sorted(files):
        if not path.startswith(start):
            continue
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts)) if recursive else [1] if len(parts) > 1 else []:
            folder = start + "/".join(parts[:depth])
            found[folder] = {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40, "uploadedAt": CREATED}
        if recursive or len(parts) == 1:
            found[path] = {"type": "file", "path": path, "size": len(files[path]), **facts(files[path])}
    if not found and prefix:
        return _json({"error": "no folder"}, 404, {"X-Error-Code": "EntryNotFound"})
    return _json(list(found.values()))
