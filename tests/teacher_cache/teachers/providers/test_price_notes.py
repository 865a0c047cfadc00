"""The table of prices: every entry is whole, a price is shown with its age, a retired model is warned of."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from teacher_cache import SpecError, open_teacher, price_notes
from teacher_cache.teachers import prices as prices_module
from teacher_cache.teachers.prices import Prices, batch_prices, read_prices

TABLE = yaml.safe_load(Path(prices_module.__file__).with_name("prices.yaml").read_text("utf-8"))
ENTRIES = [(provider, model) for provider, models in TABLE.items() for model in models]
TODAY = date(2026, 11, 26)


@pytest.mark.parametrize(("provider", "model"), ENTRIES)
def test_every_entry_of_the_table_has_a_date_a_source_and_a_price(provider, model):
    prices = read_prices("", model, "", "", provider=provider)
    assert prices.picture is not None
    assert 0 < prices.picture < 1
    assert prices.of is not None
    assert prices.of <= date.today()
    assert prices.source.startswith("https://")
    assert (prices.retires is None) == (prices.instead == "")
    if prices.instead and provider == "openai":
        assert "retires" not in TABLE["openai"][prices.instead]


@pytest.mark.parametrize(
    ("spec", "price", "exact"),
    [
        ("openai:gpt-image-2.5-flare?size=1024x1024&quality=low", 0.0059, True),
        ("openai:gpt-image-2.5-sunburst?quality=low", 0.0119, False),
        ("openai:gpt-image-2.6-flare", 0.4282, False),
        ("xai:grok-imagine-image-2.0", 0.06, True),
        ("xai:grok-imagine-image-2.0?body.resolution=2k&quality=medium", 0.08, True),
        ("xai:grok-imagine-image", 0.02, True),
        ("bfl:flux-2-pro", 0.03, True),
        ("bfl:flux-2-pro?size=1024x1024", 0.03, True),
        ("bfl:flux-2-pro?size=1920x1080", 0.045, True),
        ("together:black-forest-labs/FLUX.1-schnell?size=2048x2048", 4 * 0.0027, True),
        ("together:black-forest-labs/FLUX.1-schnell?price=0.1", 0.1, True),
        ("vllm-omni:Qwen/Qwen-Image", None, True),
        ("azure:gpt-image-2?resource=r", None, True),
        ("openai:gpt-image-2.5-flare?base_url=http://127.0.0.1:1/v1", None, True),
    ],
)
def test_a_price_is_that_of_the_provider_the_size_and_the_quality(spec, price, exact):
    notes = price_notes(open_teacher(spec), TODAY)
    assert notes.usd == (None if price is None else pytest.approx(price))
    assert notes.is_exact is exact


def test_a_price_is_shown_with_its_age_and_its_source():
    notes = price_notes(open_teacher("openai:gpt-image-1?size=1024x1024&quality=low"), TODAY)
    assert notes.basis.startswith("prices of 2025-04-23, 582 days old, from https://")
    assert "at most" in price_notes(open_teacher("openai:gpt-image-1"), TODAY).basis
    assert price_notes(open_teacher("openai:gpt-image-1?price=0.1"), TODAY).basis == "the option price"


@pytest.mark.parametrize(
    ("today", "warning"),
    [
        (date(2026, 5, 1), ""),
        (date(2026, 11, 26), "gpt-image-1-mini will be retired on 2026-12-01, in 5 days: build before that"),
        (date(2026, 11, 30), "in 1 day: build"),
        (date(2026, 12, 1), "gpt-image-1-mini was retired on 2026-12-01: its provider no longer draws with it"),
        (date(2027, 2, 1), "was retired on 2026-12-01"),
    ],
)
def test_a_models_retirement_is_warned_of_before_and_after(today, warning):
    notes = price_notes(open_teacher("openai:gpt-image-1-mini"), today)
    assert (warning in notes.warning) if warning else notes.warning == ""
    elsewhere = price_notes(open_teacher("openai:gpt-image-1-mini?base_url=http://127.0.0.1:1/v1"), today)
    assert elsewhere.warning == ""


def test_a_user_s_table_overrides_the_shipped_one(tmp_path):
    table = tmp_path / "mine.yaml"
    table.write_text("gpt-image-1-mini: {date: 2026-11-20, source: our contract, pictures: {default: 0.001}}")
    notes = price_notes(open_teacher(f"openai:gpt-image-1-mini?prices={table}"), TODAY)
    assert (notes.usd, notes.basis) == (0.001, "prices of 2026-11-20, 6 days old, from our contract")
    table.write_text("flux-2-pro: {megapixel: {first: 0.02, further: 0.01}}")
    assert open_teacher(f"bfl:flux-2-pro?size=2048x1024&prices={table}").price_usd == pytest.approx(0.03)


@pytest.mark.parametrize(
    "entry", ["{date: soon, default: 1}", "{megapixel: {first: 1}}", "{megapixel: 3}", "{retires: 5, default: 1}"]
)
def test_a_users_table_of_another_form_is_an_error_that_shows_the_form(entry, tmp_path):
    table = tmp_path / "mine.yaml"
    table.write_text(f"m: {entry}")
    with pytest.raises(SpecError, match=r"expected \{m: "):
        open_teacher(f"openai:m?prices={table}")


def test_a_batch_is_half_the_price_where_the_provider_sells_batches():
    prices = read_prices("", "gpt-image-2", "1024x1024", "low", provider="openai")
    half = batch_prices(prices)
    usage = {"input_tokens": 100, "output_tokens": 196}
    assert half.picture == pytest.approx(prices.picture / 2)
    assert half.cost_of(usage) == pytest.approx(prices.cost_of(usage) / 2)
    assert price_notes(open_teacher("openai:gpt-image-2?size=1024x1024&quality=low")).batch_usd == half.picture
    assert price_notes(open_teacher("xai:grok-imagine-image")).batch_usd is None


@pytest.mark.parametrize("ticks", [-1, 1.5, "7", True, 10**30])
def test_a_stated_cost_that_is_none_is_not_believed(ticks):
    assert Prices(0.1).cost_of({"cost_in_usd_ticks": ticks}) is None
    assert Prices(0.1).cost_of({"cost_in_usd_ticks": 6 * 10**8}) == 0.06
