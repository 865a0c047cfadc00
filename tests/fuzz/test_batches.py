"""What a server says of batches settles each request at most once, or the server is away."""

import json

import pytest

from teacher_cache import open_teacher
from teacher_cache.batches.api import BatchApi
from teacher_cache.batches.download import read_lines
from teacher_cache.batches.results import Results
from teacher_cache.batches.tables import Settled
from teacher_cache.teachers import Request
from teacher_cache.teachers.http_reply import ReplyError, http_module
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, odd_json_lines, odd_numbers
from tests.fuzz.test_replies import JSON, PICTURE, USAGE, Served, header

httpx = http_module()


@pytest.fixture
def teacher(monkeypatch):
    """A teacher that sends batches."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    return open_teacher("openai-batch:gpt-image-1-mini")


def results_of(teacher, keys, transport):
    client = httpx.Client(transport=transport)
    api = BatchApi("http://server/v1", client, {}, 1.0, lambda: False, sleep=lambda _: None)
    groups = {key: [Request(key, "a prompt", 0, 1)] for key in keys}
    return api, Results(api, teacher, groups, {}, 3, lambda answer: answer)


def test_the_results_of_a_batch_settle_each_request_at_most_once(teacher, tmp_path):
    keys = [f"{number:064x}" for number in range(5)]
    body = {"data": [{"b64_json": PICTURE}], "usage": USAGE}
    lines = [{"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None} for key in keys[:3]]
    lines.append(
        {
            "custom_id": keys[3],
            "response": {"status_code": 400, "body": {"error": {"code": "content_policy_violation"}}},
        }
    )
    lines.append({"custom_id": keys[4], "response": None, "error": {"code": "batch_expired", "message": "late"}})
    seed = "".join(json.dumps(line) + "\n" for line in lines).encode()
    served = Served()

    def read(data):
        served.data = data
        api, results = results_of(teacher, keys, served)
        settled = Settled()
        for line in read_lines(api, "file", 0, 100_000):
            results.read(line.text, settled)
        answered = [answer.image_key for answer in (*settled.final, *settled.again)] + settled.unsent
        assert len(set(answered)) == len(answered)
        assert set(answered) | set(results.groups) == set(keys)
        for answer in settled.final:
            assert answer.cost_usd is None or 0 <= answer.cost_usd < 1000

    fuzz(
        "batch results", [seed], (odd_json_lines, odd_json_lines, damaged_bytes), read, tmp_path, allowed=(ReplyError,)
    )


def test_a_servers_list_of_batches_is_read_or_the_server_is_away(teacher, tmp_path):
    batch = {"id": "b1", "created_at": 5, "status": "failed", "input_file_id": "f1", "metadata": {"armada_batch": "u"}}
    seed = json.dumps(
        {"data": [batch], "has_more": False, "id": "x", "bytes": 5, "request_counts": {"completed": 1}}
    ).encode()
    served = Served()

    def read(data):
        served.data = data
        api, _ = results_of(teacher, [], served)
        api.find_batches("u", "f1", 5.0)
        api.find_file("name")
        api.file_bytes("f1")

    fuzz("batches", [seed], JSON, read, tmp_path, count=150, allowed=(ReplyError,))


def test_a_part_of_a_file_is_the_one_that_was_asked_for(teacher, tmp_path):
    served = Served()

    def read(data):
        served.data, served.headers = b"x\n" * 20, [(b"content-range", data)]
        api, _ = results_of(teacher, [], served)
        assert len(list(read_lines(api, "file", 0, 100))) == 20

    fuzz(
        "content-range",
        [b"bytes 0-39/40"],
        (header, odd_numbers, odd_numbers),
        read,
        tmp_path,
        count=150,
        allowed=(ReplyError,),
    )
