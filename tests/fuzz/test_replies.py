"""What servers answer becomes pictures, texts or errors of the known kinds, whatever they say and however long."""

import base64
import json
from datetime import datetime, timezone

import pytest

from teacher_cache import ArmadaError
from teacher_cache.rewriting.chat_prices import ChatPrices, usage_of
from teacher_cache.rewriting.chat_reply import parse_reply, text_of
from teacher_cache.teachers.http_errors import classify, retry_after
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, http_module, read_body
from teacher_cache.teachers.prices import Prices
from teacher_cache.teachers.providers.polling import await_picture
from teacher_cache.teachers.providers.presets import preset_of
from teacher_cache.teachers.reply_pictures import read_picture, read_reply
from tests.fakes import png
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, odd_numbers, other_json

httpx = http_module()
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
LIMITS = Limits(1.0, 1_000_000)
JSON = (damaged_bytes, other_json, other_json, other_json)
PICTURE = base64.b64encode(png(1)).decode()
USAGE = {
    "input_tokens": 20,
    "output_tokens": 300,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 20},
    "output_tokens_details": {"text_tokens": 10},
}
IMAGES = json.dumps(
    {
        "created": 1,
        "data": [{"b64_json": PICTURE, "url": ""}, {"b64_json": None, "url": f"data:image/png;base64,{PICTURE}"}],
        "usage": USAGE,
    }
).encode()
PRICES = Prices(0.04, {"text_input": 5.0, "image_input": 10.0, "image_output": 40.0, "text_output": 0.0})


def test_a_reply_of_the_images_api_becomes_pictures_a_cost_and_errors(tmp_path):
    def read(data):
        reply = read_reply(data)
        PRICES.cost_of(reply.usage)
        for entry in reply.entries[:4]:
            read_picture(None, "ftp://nowhere", entry, LIMITS)

    other_names = IMAGES.replace(b'"data"', b'"images"')
    fuzz("images reply", [IMAGES, other_names], JSON, read, tmp_path, count=400, allowed=(ReplyError,))


def test_an_error_of_a_server_is_classified(tmp_path):
    seeds = [
        {
            "error": {
                "message": "no",
                "type": "invalid_request_error",
                "code": "content_policy_violation",
                "param": "prompt",
            }
        },
        {"detail": [{"loc": ["body", "size"], "msg": "bad", "type": "extra_forbidden"}]},
        {"errors": [{"code": 429, "message": "slow down"}], "inner_error": {"status": "x"}},
    ]

    def read(data):
        retry_after(data[:60].decode("latin-1"), NOW)
        for status in (200, 302, 400, 404, 429, 500):
            try:
                classify(status, {"retry-after": data[:40].decode("latin-1")}, data, NOW)
            except ArmadaError:
                continue

    fuzz("error reply", [json.dumps(seed).encode() for seed in seeds], JSON, read, tmp_path, count=300)


def test_a_time_to_wait_is_a_number_or_nothing(tmp_path):
    seeds = [b"12.5", b"Wed, 21 Oct 2026 07:28:00 GMT", b"Wed, 21 Oct 2026 07:28:00 -0000"]

    def read(data):
        assert 0 <= retry_after(data.decode("latin-1"), NOW) < float("inf")

    fuzz("retry-after", seeds, (damaged_bytes, odd_numbers), read, tmp_path, count=500)


def test_a_reply_of_a_chat_model_becomes_a_text_and_a_cost(tmp_path):
    facts = {
        "model": "m",
        "choices": [{"message": {"content": "<think>x</think> a cat", "refusal": None}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20},
    }
    parts = json.loads(json.dumps(facts))
    parts["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}, {"type": "x"}]

    def read(data):
        reply = parse_reply(data)
        ChatPrices(tokens=(1.0, 2.0)).cost_of(usage_of(reply))
        text_of(reply, 100).encode("utf-8")

    fuzz(
        "chat reply",
        [json.dumps(one).encode() for one in (facts, parts)],
        JSON,
        read,
        tmp_path,
        count=400,
        allowed=(ReplyError,),
    )


def header(random_numbers, data):
    """Damage a header, which has no line break."""
    return bytes(byte for byte in damaged_bytes(random_numbers, data)[:9000] if byte not in b"\r\n\0")


class Served(httpx.BaseTransport):
    """Answers every request with the same bytes."""

    def __init__(self) -> None:
        self.data, self.headers = b"", []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            206 if dict(self.headers).get(b"content-range") else 200,
            headers=self.headers,
            stream=httpx.ByteStream(self.data),
        )


def test_the_task_of_a_server_with_asynchronous_answers_is_asked_for_at_its_own_address(tmp_path):
    poll = preset_of("bfl").poll
    served = Served()
    task = {poll.url: "http://server/v1/get", poll.status: "Pending", poll.credits or "cost": 4}
    ready = {**task, poll.status: poll.ready[0], poll.result: {poll.picture: "http://server/p.png"}}

    def read(data):
        served.data = data
        with httpx.Client(transport=served) as client:
            await_picture(
                client,
                "http://server/v1",
                data,
                poll,
                tasks=None,
                image_key="k",
                headers={},
                key_domain="",
                limits=Limits(0.002, 10**6),
                every_s=0.001,
            )

    seeds = [json.dumps(ready).encode()]
    fuzz("task", seeds, JSON, read, tmp_path, count=100, allowed=(ReplyError,))


def test_the_stated_length_of_a_reply_is_a_size_or_an_error(tmp_path):
    served = Served()

    def read(data):
        served.data, served.headers = b"{}", [(b"content-length", data)]
        with httpx.Client(transport=served) as client:
            assert read_body(client, "GET", "http://server/x", limits=LIMITS) == b"{}"

    allowed = (ReplyError, StatusError)
    fuzz("content-length", [b"2", b"900000"], (header, odd_numbers), read, tmp_path, count=150, allowed=allowed)


@pytest.mark.parametrize("entry", ["data:image/png;base64,\ud800", {"b64_json": "data:,\ud800"}, {"url": "\ud800"}])
def test_half_a_character_in_a_reply_is_an_error_of_its_picture(entry):
    with httpx.Client(transport=Served()) as client, pytest.raises(ReplyError):
        read_picture(client, "http://server/v1", entry, LIMITS)
