"""A picture that was paid for is kept, in whatever dress the server sends it; a bad reply is its row's error only."""

import base64
import gzip
import io
import json

import pytest
from PIL import Image

from teacher_cache import Picture
from tests.fakes import png
from tests.teacher_cache.image_server import KEY, Reply, drawn, serving
from tests.teacher_cache.teachers.test_openai import PROMPTS, draw, open_at

pytestmark = pytest.mark.usefixtures("_key_and_no_long_waits")
PNG = png(7)
BASE64 = base64.b64encode(PNG).decode()


@pytest.fixture
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)


def encoded(format):
    stream = io.BytesIO()
    Image.open(io.BytesIO(PNG)).save(stream, format)
    return stream.getvalue()


def reply(data, **facts):
    return Reply(200, {"data": data, **facts})


@pytest.mark.parametrize(
    "sent",
    [
        reply([{"b64_json": "data:image/png;base64," + BASE64}]),
        reply([{"b64_json": base64.encodebytes(PNG).decode()}]),
        reply([{"b64_json": BASE64.rstrip("=")}]),
        reply([{"b64_json": base64.urlsafe_b64encode(PNG).decode()}]),
        reply([{"url": "data:image/png;base64," + BASE64.replace("+", "%2B")}]),
        reply([{"b64_json": None, "url": "data:image/png;base64," + BASE64}]),
        reply({"b64_json": BASE64}),
        reply([BASE64]),
        reply([None, {"b64_json": BASE64}], error=None),
        reply([{"b64_json": BASE64, "revised_prompt": "half a character: \ud83d"}]),
        reply([{"b64_json": BASE64, "facts": json.loads(300 * "[" + 300 * "]")}]),
        Reply(200, gzip.compress(json.dumps({"data": [{"b64_json": BASE64}]}).encode()), {"Content-Encoding": "gzip"}),
    ],
)
def test_what_stands_around_a_pictures_base64_is_removed(sent):
    with serving(lambda prompt, number: sent) as server:
        (answer,) = draw(open_at(server), PROMPTS[:1]).values()
    assert isinstance(answer, Picture), answer
    assert answer.data == PNG


@pytest.mark.parametrize(
    "url", ["/files/made/2a", "files/made/2a", "//HOST/files/made/2a", "http://HOST/files/moved/2a", "/files/moved/2a"]
)
def test_a_picture_is_fetched_from_a_relative_or_redirected_url_and_the_key_is_not_sent(url):
    with serving(lambda prompt, number: reply([{"url": url.replace("HOST", server.url[7:-3])}])) as server:
        (answer,) = draw(open_at(server), PROMPTS[:1]).values()
    assert isinstance(answer, Picture), answer
    assert answer.data == png(0x2A)
    assert server.keys == [f"Bearer {KEY}"] + [""] * (2 if "moved" in url else 1)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/files/to-file/1", "/files/loop/1", "ftp://h/x", "http://[", "gopher:x"]
)
def test_a_url_that_is_no_web_address_or_leads_nowhere_is_not_opened(url):
    with serving(lambda prompt, number: reply([{"url": url}])) as server:
        (answer,) = draw(open_at(server, price="0.1"), PROMPTS[:1]).values()
    assert (answer.reason, answer.cost_usd, answer.retry_after_s) == ("undecodable", 0.1, None)


def test_a_server_that_is_reached_by_https_can_not_send_to_plain_http(monkeypatch):
    from teacher_cache.teachers import reply_pictures
    from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError

    def read_body(client, method, url, **_):
        assert url == "https://host/a.png"
        raise StatusError(302, {"location": "http://host/a.png"}, b"")

    monkeypatch.setattr(reply_pictures, "read_body", read_body)
    for url in ("/a.png", "http://host/a.png"):
        with pytest.raises(ReplyError, match=r"expected the URL of a picture, found 'http://host/a.png'"):
            reply_pictures.read_picture(None, "https://host/v1/images/generations", {"url": url}, Limits(9, 9))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF"])
def test_a_picture_of_any_common_format_is_kept_as_it_came(format):
    picture = encoded(format)
    with serving(lambda prompt, number: drawn(picture)) as server:
        (answer,) = draw(open_at(server), PROMPTS[:1]).values()
    assert (answer.data, answer.suffix) == (picture, {"JPEG": "jpg", "TIFF": "tif"}.get(format, format.lower()))


@pytest.mark.parametrize(
    "sent",
    [
        b'{"data": ' + b"[" * 100_001 + b"]" * 100_001 + b"}",
        b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"data": [{"b64_json": "x"}], "created": ' + b"7" * 5000 + b"}",
        b'{"data": [' + b"[]," * 200_000 + b"[]]}",
        b"[]",
        b'"data"',
        b'{"created": 1}',
        b'{"data": [{"b64_json": "not base64!"}]}',
        b'{"data": [{"b64_json": {"deep": 1}, "url": 7}]}',
        b'{"data": [[[]], 7]}',
        b"\xff\xfe",
    ],
)
def test_a_json_bomb_or_a_reply_of_another_form_is_an_error_of_its_row_only(sent):
    with serving(lambda prompt, number: Reply(200, sent) if prompt == PROMPTS[1] else "ok") as server:
        answers = draw(open_at(server, price="0.1"), PROMPTS[:3])
    assert [isinstance(answers[f"{prompt}/0"], Picture) for prompt in PROMPTS[:3]] == [True, False, True]
    assert answers[f"{PROMPTS[1]}/0"].reason in ("undecodable", "transient")


def test_a_compressed_bomb_stops_at_the_limit():
    bomb = Reply(200, gzip.compress(bytes(30_000_000)), {"Content-Encoding": "gzip"})
    with serving(lambda prompt, number: bomb) as server:
        (answer,) = draw(open_at(server, max_mb=1), PROMPTS[:1]).values()
    assert (answer.reason, "more than 1000000 bytes" in answer.message) == ("undecodable", True)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (reply([]), "transient"),
        (reply(None), "transient"),
        (reply([None]), "transient"),
        (reply([{"finish_reason": "content_filter"}]), "refused"),
        (reply([{"error": {"code": "moderation_blocked"}}]), "refused"),
        (reply([], error={"code": "content_policy_violation"}), "refused"),
        (Reply(200, {"error": {"code": "content_filter", "message": "x"}}), "refused"),
        (Reply(200, {"code": "content_filter", "data": None}), "refused"),
        (Reply(200, {"code": 0, "message": "success", "data": []}), "transient"),
        (Reply(200, {"error": {"code": 500, "message": "content_filter"}}), "transient"),
    ],
)
def test_a_reply_with_status_200_means_what_its_error_or_its_empty_data_say_and_costs_nothing(sent, reason):
    with serving(lambda prompt, number: sent if prompt == PROMPTS[0] else "ok") as server:
        answer = draw(open_at(server, price="0.1"), PROMPTS[:2])[f"{PROMPTS[0]}/0"]
    assert (answer.reason, answer.cost_usd) == (reason, 0.0)
