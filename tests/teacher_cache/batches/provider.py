"""What a provider of batches does with files and batches: it draws real PNGs, and misbehaves on demand.

`faults` has one word of FAULTS per batch that is accepted; the batches after the last word are fine. A batch ends when
it was looked at `looks` times. `paid` counts the pictures that were drawn by their custom id: each was paid for.
"""

from __future__ import annotations

import base64
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.fakes import png

FAULTS = (
    "ok",
    "a line fails validation",
    "validation fails",
    "expired with half done",
    "cancelled with half done",
    "failed with half done",
    "output missing",
    "output late",
    "error file only",
    "twice",
    "another order",
    "a key never asked",
    "no picture",
    "queue full",
    "no answer to some",
    "rows fail once",
    "cut short",
)
USAGE = {"input_tokens": 10, "output_tokens": 100, "input_tokens_details": {"image_tokens": 0}}


class Provider:
    """`requests` has the method and path of each request. The next `away` requests get 503; creations whose number is
    in `unheard` are accepted, and the connection is closed without a reply."""

    def __init__(self, faults: Sequence[str] = ()) -> None:
        self.faults = list(faults)
        self.looks = 1
        self.away = 0
        self.unheard: set[int] = set()
        self.refusal: tuple[int, dict[str, Any]] | None = None  # of every creation
        self.most_rows = 50_000  # in a batch, beyond which the queue is full
        self.has_no_batches = False  # every request is a bad one
        self.has_ranges = True
        self.has_metadata = True
        self.cuts = 0  # downloads that are cut in the middle
        self.usage: dict[str, Any] | None = None
        self.files: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.paid: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}  # the last one by custom id
        self.requests: list[tuple[str, str]] = []
        self.queries: list[str] = []  # of each request
        self.keys: set[str] = set()
        self.downloaded = 0
        self.lock = threading.RLock()
        self.number = 0

    @property
    def pictures(self) -> int:
        """How many pictures were paid for."""
        return sum(self.paid.values())

    def add_file(self, name: str, data: bytes, purpose: str) -> str:
        self.number += 1
        key = f"file-{self.number:05d}"
        self.files[key] = {
            "id": key,
            "object": "file",
            "filename": name,
            "bytes": len(data),
            "purpose": purpose,
            "created_at": int(time.time()),
            "data": data,
        }
        return key

    def make(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Accept a batch."""
        self.number += 1
        key = f"batch_{self.number:05d}"
        lines = [json.loads(line) for line in self.files[facts["input_file_id"]]["data"].splitlines()]
        fault = self.faults.pop(0) if self.faults else "ok"
        self.batches[key] = {
            "id": key,
            "object": "batch",
            "endpoint": facts["endpoint"],
            "input_file_id": facts["input_file_id"],
            "completion_window": facts["completion_window"],
            "status": "validating",
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": facts.get("metadata") if self.has_metadata else None,
            "fault": fault,
            "looked": 0,
            "lines": lines,
        }
        return self.batches[key]

    def step(self, batch: dict[str, Any]) -> None:
        """The batch was looked at."""
        batch["looked"] += 1
        if batch["fault"] == "output late" and batch["looked"] == self.looks + 2:
            batch["output_file_id"] = batch["held_back"]
        if batch["status"] in ("validating", "in_progress", "cancelling"):
            if batch["looked"] < self.looks:
                batch["status"] = "in_progress" if batch["status"] == "validating" else batch["status"]
            else:
                self.end(batch)

    def end(self, batch: dict[str, Any]) -> None:
        """End a batch as its fault says."""
        fault, lines = batch["fault"], list(batch["lines"])
        keys = [line["custom_id"] for line in lines]
        status, drawn, failed, errors = "completed", lines, [], []
        if batch["status"] == "cancelling":
            status, drawn = "cancelled", []
        elif fault == "queue full" or len(lines) > self.most_rows:
            errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
        elif fault == "validation fails":
            errors = [{"code": "model_not_found", "message": "the model does not exist", "line": None}]
        elif fault == "a line fails validation":
            errors = [{"code": "invalid_value", "message": "too long", "param": "body.prompt", "line": 1}]
        elif fault.endswith("with half done"):
            status, drawn = fault.split()[0], lines[: (len(lines) + 1) // 2]
            code = {"expired": "batch_expired", "cancelled": "batch_cancelled"}.get(status)
            failed = [_failed(key, error={"code": code, "message": "not made"}) for key in keys[len(drawn) :] if code]
        elif fault == "error file only":
            drawn = []
            refusal = {"error": {"message": "no", "code": "moderation_blocked", "type": "image_generation_user_error"}}
            failed = [_failed(key, response={"status_code": 400, "body": refusal}) for key in keys]
        elif fault == "rows fail once":
            drawn = lines[1:]
            failed = [_failed(keys[0], response={"status_code": 500, "body": {"error": {"message": "oh"}}})]
        if errors:
            batch["status"], batch["errors"] = "failed", {"object": "list", "data": errors}
            return
        results = [self.draw(line, fault) for line in drawn]
        if fault == "another order":
            random.Random(1).shuffle(results)
        if fault == "twice":
            results = results + results[:2]
        if fault == "a key never asked":
            results.insert(1, json.dumps(json.loads(results[0]) | {"custom_id": "f" * 64}))
            results.insert(1, "{ no json")
        if fault == "no answer to some":
            results = results[1:]
        batch["status"] = status
        batch["request_counts"] |= {"completed": len(drawn), "failed": len(failed)}
        if results:
            data = "".join(line + "\n" for line in results).encode()
            output = self.add_file("output.jsonl", data, "batch_output")
            batch["held_back" if fault == "output late" else "output_file_id"] = output
            if fault == "output missing":
                del self.files[output]
            if fault == "cut short":
                self.files[output]["data"] = data[: len(data) * 2 // 3]
        if failed:
            data = "".join(line + "\n" for line in failed).encode()
            batch["error_file_id"] = self.add_file("errors.jsonl", data, "batch_output")

    def draw(self, line: dict[str, Any], fault: str) -> str:
        """Draw, at a price."""
        key, body = line["custom_id"], line["body"]
        self.paid[key] += 1
        self.bodies[key] = body
        pictures = [png(int(key[:8], 16) + n) for n in range(body.get("n", 1))]
        if fault == "no picture":
            pictures = [b"<html>no picture</html>"]
        reply = {"created": 1, "data": [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures]}
        if self.usage:
            reply["usage"] = self.usage
        response = {"status_code": 200, "request_id": "r", "body": reply}
        return json.dumps({"id": f"r-{key[:8]}", "custom_id": key, "response": response, "error": None})


def _failed(key: str, **facts: Any) -> str:
    return json.dumps({"id": f"r-{key[:8]}", "custom_id": key, "response": None, "error": None, **facts})
