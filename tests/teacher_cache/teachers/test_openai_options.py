"""The options of the openai teacher: errors, prices, and what is part of the key."""

import pytest

from teacher_cache import SpecError, open_teacher, source_of_teacher


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openai:", "expected openai:MODEL"),
        ("openai:m?sise=1", "unknown option 'sise'; .*: as, background, base_url, concurrency"),
        ("openai:m?base_url=http://me:secret@host/v1", "without user, password or query"),
        ("openai:m?base_url=ftp://host", "base_url expects http"),
        ("openai:m?price=cheap", "option price expects dollars per picture, 0 or more, found 'cheap'"),
        ("openai:m?timeout=nan", "option timeout expects a finite number, found 'nan'"),
        ("openai:m?concurrency=0", "option concurrency expects a number from 1 on, found 0"),
        ("openai:m?rpm=-1", "option rpm expects a number from 0 on"),
        ("openai:m?as=a%0Ab", "option as expects a name of printable characters"),
        ("openai:m?as=http://u:p@h", "without user, password or query"),
        ("openai:m?prices=/nowhere.yaml", "expected {m: "),
        ("openai:m?seed=yes", "option seed expects one of auto, true, false"),
    ],
)
def test_the_error_for_a_spec_that_cannot_be_used_names_the_cause(text, message):
    with pytest.raises(SpecError, match=message):
        open_teacher(text)


def test_prices_are_read_from_the_users_table(tmp_path):
    table = tmp_path / "prices.yaml"
    table.write_text("m: {'1024x1024 high': 0.167, low: 0.011, default: 0.04}\n")
    prices = [
        open_teacher(f"openai:m?prices={table}&{more}").price_usd
        for more in ("size=1024x1024&quality=high", "quality=low", "size=512x512", "price=0.5")
    ]
    assert prices == [0.167, 0.011, 0.04, 0.5]


def test_the_key_depends_on_what_changes_a_picture_and_not_on_how_it_is_requested():
    def digest(more):
        return source_of_teacher(open_teacher(f"openai:m?{more}")).digest

    plain = digest("size=512x512")
    for same in ("concurrency=64", "rpm=60", "timeout=9", "price=0.1", "n=4", "max_mb=9", "licence=CC0"):
        assert digest(f"size=512x512&{same}") == plain
    others = [
        "size=256x256",
        "size=512x512&quality=low",
        "size=512x512&base_url=http://h/v1",
        "size=512x512&revision=2",
    ]
    assert len({plain, *map(digest, others)}) == 5
