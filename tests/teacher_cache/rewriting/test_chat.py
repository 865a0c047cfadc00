"""The chat rewriter with a real HTTP server: every text ends with a prompt or a reason, and the key is only sent."""

import json

import pytest

from teacher_cache import ArmadaError, SpecError
from teacher_cache.keys import sha256
from teacher_cache.registry.specs import parse_spec
from teacher_cache.rewriting import Rewritten
from teacher_cache.rewriting.chat import ChatRewriter
from teacher_cache.rewriting.chat_reply import LONGEST
from teacher_cache.rewriting.instructions import INSTRUCTIONS
from teacher_cache.teachers import Failure, Request, rate_limit
from tests.teacher_cache.chat_server import KEY, chat_server, written
from tests.teacher_cache.image_server import Reply, error


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("CHAT_KEY", KEY)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def opened(text):
    return ChatRewriter(parse_spec(text))


def ask(server, texts, options=""):
    rewriter = opened(f"{server.spec}&key_env=CHAT_KEY{options}")
    requests = (Request(sha256(text.encode()), text, 0, 77) for text in texts)
    by_key = {
        answer.key if isinstance(answer, Rewritten) else answer.image_key: answer
        for answer in rewriter.rewrite(requests)
    }
    return [by_key[sha256(text.encode())] for text in texts]


def test_a_text_is_sent_with_the_instruction_and_the_answer_comes_with_its_tokens():
    with chat_server() as server:
        (answer,) = ask(server, ["freedom"])
    assert (answer.text, answer.model, answer.input_tokens, answer.output_tokens) == (
        "a scene of freedom",
        "tiny-1",
        40,
        10,
    )
    (body,) = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": INSTRUCTIONS["v1"]},
        {"role": "user", "content": "freedom"},
    ]
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("tiny", 0.0, 77, 500)
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (written("  two\n\tlines \u0000 "), "two lines"),
        (written("<think>hm, a dog?</think>\n a dog"), "a dog"),
        (written([{"type": "text", "text": "a "}, {"type": "text", "text": "hat"}]), "a hat"),
        (written("e\u0301"), "\u00e9"),
        (written("", refusal="I can't do that"), "refused"),
        (written("half a", "length"), "permanent"),
        (written("no", "content_filter"), "refused"),
        (written("   "), "blank"),
        (written(None), "blank"),
        (written(7), "blank"),
        (written("x" * (LONGEST + 1)), "undecodable"),
        (Reply(200, b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "undecodable"),
        (Reply(200, b"<html>"), "transient"),
        (Reply(200, b"[" * 100_000), "transient"),
        (Reply(200, b"[1]"), "undecodable"),
        (Reply(200, {"choices": []}), "undecodable"),
        (Reply(200, {"choices": [{"message": "x"}]}), "undecodable"),
        (error(500), "transient"),
        (error(400, code="content_filter"), "refused"),
        (error(400, code="content_policy_violation"), "refused"),
        (error(400, code="context_length_exceeded", param="messages"), "permanent"),
        (error(400, code="string_above_max_length", param="messages[1].content"), "permanent"),
        (Reply(200, {"error": {"message": "no", "code": "content_filter"}}), "refused"),
    ],
)
def test_each_reply_becomes_a_prompt_or_a_failure_with_its_reason(reply, expected):
    with chat_server(lambda text, number: reply if text == "odd" else "fine") as server:
        odd, fine = ask(server, ["odd", "good"])
    assert fine.text == "fine"
    assert (odd.reason if isinstance(odd, Failure) else odd.text) == expected
    if expected == "transient":
        assert odd.retry_after_s is not None


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (error(401, code="invalid_api_key"), "HTTP 401"),
        (error(404, code="model_not_found"), "HTTP 404"),
        (error(400, code="unsupported_value", param="temperature"), "write temperature=none in the spec of --rewrite"),
        (error(400, code="unknown_parameter", param="seed"), "write seed=false in the spec of --rewrite"),
        (error(429, code="insufficient_quota"), "pay the provider"),
    ],
)
def test_what_no_text_can_help_ends_the_build_with_what_to_do(reply, message):
    with chat_server(lambda text, number: reply) as server, pytest.raises(ArmadaError, match=message) as raised:
        ask(server, ["a", "b"])
    assert KEY not in str(raised.value)


def test_a_server_that_echoes_the_key_does_not_get_it_into_a_message():
    with chat_server(
        lambda text, number: Reply(400, {"error": {"message": f"bad {KEY}", "param": "prompt"}})
    ) as server:
        (answer,) = ask(server, ["a"])
    assert KEY not in answer.message
    assert "***" in answer.message


def test_a_missing_key_is_an_error_before_any_call(monkeypatch):
    monkeypatch.delenv("CHAT_KEY")
    with chat_server() as server:
        with pytest.raises(ArmadaError, match="CHAT_KEY is not set"):
            ask(server, ["a"])
        assert not server.bodies


def test_each_option_that_changes_the_text_changes_the_spec_and_no_other_does(tmp_path):
    (tmp_path / "own.txt").write_text("  Draw it.\n")
    base = opened("openai:m").spec
    changing = ["instruction=Draw it", "temperature=0.5", "temperature=none", "seed=false", "revision=2", "as=x"]
    changing += [
        "base_url=http://h/v1",
        "body.top_p=0.5",
        "body.reasoning_effort=low",
        f"instruction={tmp_path}/own.txt",
    ]
    specs = [opened(f"openai:m?{option}").spec for option in changing]
    assert len({json.dumps(spec) for spec in [*specs, base]}) == len(changing) + 1
    assert opened(f"openai:m?instruction={tmp_path}/own.txt").spec == opened("openai:m?instruction=Draw it.").spec
    keeping = ["max_tokens=9", "concurrency=3", "rpm=5", "timeout=9", "key_env=X", "price=1", "instruction=v1"]
    assert all(opened(f"openai:m?{option}").spec == base for option in keeping)


def test_the_default_instruction_never_changes_under_its_name():
    assert sha256(INSTRUCTIONS["v1"].encode()) == "b2999277a1c5ee87c442db1ed51d00a790ac8d5ee3c6dd3487e07091a27735b2"


def test_further_fields_of_the_body_are_sent_with_their_types():
    with chat_server() as server:
        ask(
            server, ["a"], '&body.top_p=0.5&body.reasoning_effort=low&body.extra={"a":true}&temperature=none&seed=false'
        )
    (body,) = server.bodies
    assert (body["top_p"], body["reasoning_effort"], body["extra"]) == (0.5, "low", {"a": True})
    assert not {"temperature", "seed"} & set(body)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openai", "expected openai:MODEL"),
        ("openai:m?temprature=1", "unknown option 'temprature'"),
        ("openai:m?temperature=hot", "temperature expects a number"),
        ("openai:m?temperature=-1", "temperature expects a number"),
        ("openai:m?max_tokens=0", "max_tokens expects"),
        ("openai:m?concurrency=0", "concurrency expects"),
        ("openai:m?instruction=", "found an empty text"),
        ("openai:m?instruction=/nowhere/x.txt", "no such file"),
        ("openai:m?base_url=ftp://x", "base_url expects"),
        ("openai:m?body.messages=x", "body.messages"),
        ("openai:m?price=free", "option price expects dollars"),
        ("openai:m?prices=/nowhere.yaml", "text_input, text_output"),
    ],
)
def test_a_wrong_option_is_one_error_that_names_it(text, message):
    with pytest.raises(SpecError, match=message):
        opened(text)


def test_a_call_costs_what_its_usage_says_and_at_most_what_was_reserved(tmp_path):
    table = tmp_path / "prices.yaml"
    table.write_text("tiny: {tokens: {text_input: 1.0, text_output: 4.0}}\n")
    with chat_server(lambda text, number: written("", refusal="no") if text == "bad" else "fine") as server:
        good, bad = ask(server, ["good", "bad"], f"&prices={table}")
    assert good.cost_usd == bad.cost_usd == pytest.approx((40 * 1.0 + 10 * 4.0) / 1e6)
    rewriter = opened(f"openai:tiny?prices={table}")
    assert rewriter.price_of("good") > good.cost_usd
    assert rewriter.price_of("x" * 1000) - rewriter.price_of("") == pytest.approx(1000 / 1e6)
    assert opened("openai:gpt-4.1-mini").price_usd is not None
    assert opened("openai:unheard-of").price_usd is None
    assert opened("openai:gpt-4.1-mini?base_url=http://h/v1").price_usd is None
