"""A call costs what its reply says, by a table of prices; else the typed price. A price that is none is refused."""

import pytest

from teacher_cache import ArmadaError, BuildOptions, SpecError, build, open_teacher, recompute, status
from teacher_cache.building import retries
from teacher_cache.teachers.prices import Prices, read_prices
from tests import fakes
from tests.teacher_cache.image_server import KEY, drawn, serving
from tests.teacher_cache.teachers.test_openai import open_at

USAGE = {
    "total_tokens": 1116,
    "input_tokens": 60,
    "output_tokens": 1056,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 40},
}
COST = (20 * 5 + 40 * 10 + 1056 * 40) / 1e6


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(
        "tiny-image: {date: 2026-01-01, tokens: {text_input: 5, image_input: 10, image_output: 40}, "
        "pictures: {default: 0.01}}\n"
    )
    return path


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("openai:gpt-image-1?size=1024x1024&quality=low", 0.011),
        ("openai:gpt-image-1?size=1024x1536&quality=high", 0.25),
        ("openai:gpt-image-1?quality=low", 0.016),
        ("openai:gpt-image-1", 0.25),
        ("openai:gpt-image-1?price=0.07", 0.07),
        ("openai:dall-e-3?size=1024x1792&quality=hd", 0.12),
        ("openai:dall-e-3", 0.04),
        ("openai:dall-e-2?size=256x256", 0.016),
        ("openai:another-model", None),
        ("openai:gpt-image-1?base_url=http://127.0.0.1:1/v1", None),
    ],
)
def test_the_shipped_table_prices_the_models_of_openais_own_server(text, price):
    assert open_teacher(text).price_usd == price


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (USAGE, COST),
        ({"input_tokens": 50, "output_tokens": 100}, (50 * 5 + 100 * 40) / 1e6),
        ({}, None),
        ({"input_tokens": 50}, None),
        ({"input_tokens": "50", "output_tokens": 100}, None),
        ({"input_tokens": 50, "output_tokens": -1}, None),
        ({"input_tokens": 50, "output_tokens": float("nan")}, None),
        ({"input_tokens": 50, "output_tokens": 10**30}, None),
        ({"input_tokens": True, "output_tokens": 100}, None),
        ({"input_tokens": 0, "output_tokens": 0}, None),
        ({**USAGE, "input_tokens_details": {"image_tokens": 61}}, None),
        ({**USAGE, "output_tokens_details": {"text_tokens": 5}}, None),  # no price for it
    ],
)
def test_a_usage_is_priced_by_the_kinds_of_its_tokens_or_not_at_all(usage, cost):
    prices = read_prices("", "gpt-image-1", "", "", is_openai=True)
    assert prices.cost_of(usage) == (None if cost is None else pytest.approx(cost))
    assert Prices(0.1).cost_of(usage) is None


def test_a_picture_costs_what_the_replys_usage_says_else_the_typed_price(cache, table):
    def plan(prompt, number):
        usage = {"a": USAGE, "b": {"input_tokens": "many"}}.get(prompt)
        return drawn(fakes.png(len(prompt) + ord(prompt[0])), **({"usage": usage} if usage else {}))

    with serving(plan) as server:
        teacher = open_at(server, prices=table, price="0.02", concurrency=1)
        report = build(cache, ["a", "b", "c"], teacher, fakes.encoder())
    assert report.cost_usd == pytest.approx(COST + 0.02 + 0.02)
    assert teacher.price_usd == pytest.approx(COST)  # what is reserved from now on


def test_a_budget_holds_though_each_picture_costs_more_than_was_typed(cache, table):
    with serving(lambda prompt, number: drawn(fakes.png(int(prompt)), usage=USAGE)) as server:
        teacher = open_at(server, prices=table, price="0.001", concurrency=1)
        options = BuildOptions(budget_usd=0.5)
        report = build(cache, [str(i) for i in range(40)], teacher, fakes.encoder(), options)
    assert report.stopped == "budget"
    assert 0.5 - COST < report.cost_usd <= 0.5


@pytest.mark.parametrize("price", ["-1", "nan", "inf", "-inf", "1e999", "free"])
def test_a_price_that_is_negative_infinite_or_no_number_is_refused_wherever_it_stands(tmp_path, price):
    with pytest.raises(SpecError, match="option price expects dollars per picture"):
        open_teacher(f"openai:m?price={price}")
    with pytest.raises(SpecError, match=r"expected a price in dollars|option price expects a finite number"):
        open_teacher(
            f"tests.fakes:FakeTeacher?price={price}" if price != "free" else "tests.teacher_cache.odd_teachers:Free"
        )
    for entry in (f"{{default: {price}}}", f"{{tokens: {{image_output: {price}}}}}", f"{{pictures: {{x: {price}}}}}"):
        path = tmp_path / "prices.yaml"
        path.write_text(f"m: {entry.replace('nan', '.nan').replace('1e999', '.inf')}\n")
        with pytest.raises(SpecError, match="expected"):
            open_teacher(f"openai:m?prices={path}")


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), -1.0])
def test_a_budget_that_is_no_amount_is_refused_before_the_first_call(cache, budget):
    teacher = fakes.teacher(price=0.1)
    with pytest.raises(ArmadaError, match="--budget-usd: expected a finite number of at least 0"):
        build(cache, ["a"], teacher, fakes.encoder(), BuildOptions(budget_usd=budget))
    assert not teacher.calls


def test_time_outs_are_in_the_ledger_at_their_price(cache):
    with serving(lambda prompt, number: "late") as server:
        teacher = open_at(server, timeout="1.0", price="0.1")
        report = build(cache, ["a"], teacher, fakes.encoder(), BuildOptions(attempts=2))
    assert (report.failed, report.calls, report.cost_usd) == ({"transient": 1}, 2, pytest.approx(0.2))


def test_recomputation_is_in_the_ledger(cache, monkeypatch):
    teacher = fakes.teacher(price=0.1)
    monkeypatch.setattr(fakes.FakeTeacher, "deterministic", True, raising=False)
    build(cache, ["a", "b", "c"], teacher, fakes.encoder())
    assert recompute(cache, 2, [teacher])[0].asked == 2
    (state,) = status(cache)
    assert (state.calls, state.cost_usd) == (5, pytest.approx(0.5))
