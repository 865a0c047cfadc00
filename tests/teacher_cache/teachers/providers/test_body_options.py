"""`body.NAME=VALUE` and its like send any server's own options: typed, in the key in any order, and never a secret."""

import json
from pathlib import Path

import pytest

from teacher_cache import BuildOptions, SpecError, build, open_teacher, source_of_teacher
from teacher_cache.teachers import Request
from tests import fakes
from tests.teacher_cache.image_server import KEY, serving
from tests.teacher_cache.teachers.providers.provider_servers import standing
from tests.teacher_cache.teachers.test_openai import open_at


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def sent(**options):
    """Return the body that the teacher sends."""
    with serving() as server:
        list(open_at(server, **options).draw(iter([Request("a", "a cat", 0, 7)])))
    return server.bodies[0]


def digest(options):
    return source_of_teacher(open_teacher(f"openai:m?base_url=http://h/v1&{options}")).digest


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20", 20),
        ("-3", -3),
        ("4.5", 4.5),
        ("4.0", 4),
        ("1e3", 1000),
        ("true", True),
        ("null", None),
        ("euler", "euler"),
        ('"20"', "20"),
        ('"true"', "true"),
        ("True", "True"),
        ("", ""),
        ("[1,2.0,{}]", [1, 2, {}]),
        ('{"scale":0.5}', {"scale": 0.5}),
        ("{broken", "{broken"),
        ("12345678901234567890", 12345678901234567890),
    ],
)
def test_a_value_is_sent_with_its_type(value, expected):
    body = sent(**{"body.option": value})
    assert body["option"] == expected
    assert type(body["option"]) is type(expected)


def test_dots_lead_into_objects():
    body = sent(**{"body.extra.lora.scale": "0.5", "body.extra.lora.name": "x", "body.extra.steps": "2"})
    assert body["extra"] == {"lora": {"scale": 0.5, "name": "x"}, "steps": 2}


def test_the_key_has_the_options_in_any_order_and_in_any_writing_of_the_same_value():
    plain = digest("body.a=1&body.b.c=2&body.b.d=x")
    assert digest("body.b.d=x&body.b.c=2.0&body.a=1") == plain
    assert digest('body.b={"d":"x","c":2}&body.a=1.0') == plain
    others = ['body.a="1"&body.b.c=2&body.b.d=x', "body.a=2&body.b.c=2&body.b.d=x", "body.a=1&body.b.c=2", "size=1x1"]
    assert len({plain, *map(digest, others)}) == 5


def test_without_such_options_a_key_is_what_it_was():
    spec = open_teacher("openai:m?base_url=http://h/v1&size=512x512&seed=true").spec
    assert spec == {
        "kind": "openai",
        "endpoint": "http://h/v1",
        "model": "m",
        "size": "512x512",
        "seed": "from the image key",
    }
    assert source_of_teacher(open_teacher("openai:gpt-image-1")).digest[:16] == GOLDEN


GOLDEN = "1124d49631f4ba22"  # of main before there were such options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("body.prompt=x", "the teacher sets prompt itself; it is the text of each row"),
        ("body.n=2", "the teacher sets n itself; write n=NUMBER"),
        ("body.seed=1", "write seed=true or seed=false"),
        ("body.model=x", "write openai:MODEL"),
        ("body.size=1x1", "write size=VALUE without body."),
        ("body.quality.x=1", "write quality=VALUE without body."),
        ("body.stream=true", "not received in parts"),
        ("body.=1", "expected body.NAME=VALUE"),
        ("body.a..b=1", "expected body.NAME=VALUE"),
        ("body.a=1&body.a.b=2", "body.a.b: body.a is given as a whole too"),
        ("body.a.b=1&body.a.b.c=2", "body.a.b.c: body.a.b is given as a whole too"),
        ("body.a=NaN", "expected a number of JSON, found NaN"),
        ("body.a=[1e999]", "expects a finite number"),
        ("body.a=1&body.a=2", "option body.a is given twice"),
        (f"body.a={'[' * 100000}", "too many brackets"),
        ("header_env.host=X", "expected the name of a header"),
        ("header_env.x-org=a b", "expects the name of an environment variable, not a value"),
        ("path=../admin", "option path expects a path below base_url"),
        ("path=/x?y", "option path expects a path below base_url"),
        ("boddy.a=1", "unknown option 'boddy.a'"),
    ],
)
def test_the_error_for_an_option_that_cant_be_sent_says_what_to_write(options, message):
    with pytest.raises(SpecError, match=message):
        open_teacher(f"openai:m?{options}")


@pytest.mark.parametrize(
    "options",
    [
        "body.api_key=abcdef123456",
        "body.apiKey=abcdef123456",
        "body.extra.access_token=abcdef123456",
        'body.extra={"auth":{"password":"abcdef123456"}}',
        "query.code=abcdef123456",
        "query.subscription-key=abcdef123456",
        "body.a=Bearer abcdef123456",
        f"body.a={KEY}",
        f"style={KEY}",
        f"key_env=TEST_IMAGE_KEY&licence={KEY}",
    ],
)
def test_a_secret_in_a_spec_is_refused_without_being_repeated(options, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(SpecError, match="a spec is stored with the pictures") as caught:
        open_teacher(f"openai:m?{options}")
    assert "abcdef123456" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_queries_are_in_the_address_and_in_the_key_and_headers_come_from_the_environment(monkeypatch, cache, capfd):
    monkeypatch.setenv("MY_ORG", "org-0123456789")

    def echoing(asked):
        return 400, {
            "error": {"message": f"you said {asked.headers} {asked.query}", "code": "content_policy_violation"}
        }

    with standing(echoing) as stand:
        options = "query.mode=fast&header_env.X-Org=MY_ORG&key_header=X-Api-Key&key_env=TEST_IMAGE_KEY"
        teacher = open_teacher(f"openai:m?base_url={stand.url}/v1&{options}")
        report = build(cache, ["a"], teacher, fakes.encoder(), BuildOptions(attempts=1))
    assert report.failed == {"refused": 1}
    (asked,) = stand.asked
    assert (asked.query, asked.headers["x-org"], asked.headers["x-api-key"]) == (
        {"mode": ["fast"]},
        "org-0123456789",
        KEY,
    )
    assert "authorization" not in asked.headers
    assert teacher.spec["query"] == {"mode": "fast"}
    assert "org-0123456789" not in json.dumps(teacher.spec)
    (failure,) = cache.failures(source_of_teacher(teacher)).to_pylist()
    assert "you said" in failure["message"]
    stored = [path.read_bytes() for path in Path(cache.store.url).rglob("*") if path.is_file()]
    printed = "".join(capfd.readouterr()).encode()
    assert stored
    assert not [text for text in [*stored, printed] if KEY.encode() in text or b"org-0123456789" in text]


def test_a_server_with_a_path_and_a_reply_of_its_own_needs_no_preset():
    def other(asked):
        assert asked.path == "/api/draw"
        return 200, {"images": [{"url": f"{asked.origin}/file/1", "width": 8}], "seed": asked.body["seed"]}

    with standing(other) as stand:
        teacher = open_teacher(f"openai:m?base_url={stand.url}/api&path=draw&seed=true&body.image_size=square")
        (answer,) = teacher.draw(iter([Request("a", "a", 0, 7)]))
    assert answer.suffix == "png"
    assert stand.asked[0].body == {"model": "m", "image_size": "square", "prompt": "a", "seed": 7}
    assert teacher.spec["path"] == "draw"
