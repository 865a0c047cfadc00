"""Builds with a recipe: what is drawn, what training finds, and that each text is rewritten once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    build,
    choose,
    make_plan,
    make_requests,
    open_features,
    retry,
    rewriter_status,
    rewriting_usd,
    source_of_encoder,
    source_of_teacher,
    status,
)
from teacher_cache.rewriting.rows import read_rewrites, rewriters
from tests import fakes
from tests.teacher_cache.chat_server import chat_server, written
from tests.teacher_cache.image_server import error, serving
from tests.teacher_cache.rewriting.recipe_builds import FAKE, OWN, TEXTS, drawn, no_long_waits, painter, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_long_waits")


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"), create=True)


def test_the_teacher_gets_the_drawn_prompt_and_training_finds_the_picture_by_the_text(cache):
    with chat_server() as chat, serving() as images:
        text = f"openai:tiny?base_url={images.url}"
        teacher = painter(chat.spec, text, template="<{text}>", suffix=", wide")
        report = run(cache, teacher, samples=2)
    assert {body["prompt"] for body in images.bodies} == {f"<a scene of {text}>, wide" for text in TEXTS}
    assert (report.drawn, report.rewritten, report.calls, report.calls_total) == (12, 6, 18, 18)
    assert drawn(cache, teacher) == {text: f"<a scene of {text}>, wide" for text in TEXTS}
    features = open_features(cache, *choose(cache, None, None))
    for sample in (0, 1):
        assert (features.rows_of(TEXTS, sample) >= 0).all()
    assert (features.rows_of([f"<a scene of {text}>, wide" for text in TEXTS], 0) < 0).all()


def test_a_text_is_rewritten_once_for_all_samples_builds_and_teachers(cache):
    with chat_server() as chat:
        run(cache, painter(chat.spec), samples=2)
        assert run(cache, painter(chat.spec), samples=3).rewritten == 0
        assert run(cache, painter(chat.spec, template="another {text}")).rewritten == 0
        assert run(cache, painter(chat.spec), [*TEXTS, "new"]).rewritten == 1
    assert chat.requested == Counter([*TEXTS, "new"])
    (one,) = rewriter_status(cache)
    assert (one.texts, one.calls, one.in_spool, len(one.teachers)) == (7, 7, 0, 2)


def test_without_a_recipe_shards_have_the_same_bytes_as_before(cache, tmp_path):
    plain, templated = fakes.teacher(), painter(template="x {text}")
    fixed = lambda: 1_700_000_000.0  # noqa: E731
    build(cache, TEXTS, plain, fakes.encoder(), BuildOptions(), clock=fixed)
    (tar,) = [shard for shard in cache.shards("images/")]
    assert "drawn_prompt" not in cache.table(tar).column_names
    assert b"drawn_prompt" not in cache.store.read(tar.path)
    run(cache, templated)
    assert drawn(cache, templated) == {text: f"x {text}" for text in TEXTS}
    assert set(drawn(cache, plain).values()) == {""}


def test_a_rewriter_that_fails_for_a_text_is_a_failure_of_its_pictures_until_it_is_retried(cache):
    refuses = True
    plan = lambda text, number: written("", refusal="no") if refuses and text == "idea 2" else f"seen {text}"  # noqa: E731
    with chat_server(plan) as chat:
        teacher = painter(chat.spec)
        report = run(cache, teacher, samples=2)
        assert (report.drawn, dict(report.failed)) == (10, {"refused": 2})
        failures = cache.failures(source_of_teacher(teacher)).to_pylist()
        assert {(row["prompt"], row["sample"], row["message"]) for row in failures} == {
            ("idea 2", 0, "rewriting: no"),
            ("idea 2", 1, "rewriting: no"),
        }
        assert status(cache)[0].failures == {"refused": 2}
        assert rewriter_status(cache)[0].failures == {"refused": 1}
        again = run(cache, teacher, samples=2)
        assert (again.calls, dict(again.failed)) == (0, {"refused": 2})
        assert chat.requested["idea 2"] == 1
        still = retry(cache, teacher, fakes.encoder(), ["refused"])
        assert (still.calls, dict(still.failed)) == (1, {"refused": 2})
        refuses = False
        done = retry(cache, teacher, fakes.encoder(), ["refused"])
        assert (done.calls, done.drawn, dict(done.failed)) == (3, 2, {})
        assert status(cache)[0].failures == {} == rewriter_status(cache)[0].failures
        assert run(cache, teacher, samples=2).calls == 0


def test_a_picture_whose_text_was_mended_for_another_teacher_is_drawn(cache):
    refuses = True
    with chat_server(lambda text, number: written("", refusal="no") if refuses else "seen") as chat:
        one, other = painter(chat.spec), painter(chat.spec, prefix="a ")
        assert dict(run(cache, one, ["idea"]).failed) == {"refused": 1}
        assert dict(run(cache, other, ["idea"]).failed) == {"refused": 1}
        refuses = False
        assert retry(cache, other, fakes.encoder(), ["refused"]).drawn == 1
        assert run(cache, one, ["idea"]).drawn == 1
    assert chat.requested == {"idea": 2}


def test_a_teachers_own_refusal_of_a_mended_text_is_not_asked_again_and_again(cache):
    def plan(text, number):
        return written("", refusal="no") if number < 3 else "[refused] seen"

    with chat_server(plan) as chat:
        teacher = painter(chat.spec)
        run(cache, teacher, ["idea"])
        retry(cache, teacher, fakes.encoder(), ["refused"])
        assert retry(cache, teacher, fakes.encoder(), ["refused"]).calls == 2
        for _ in range(2):
            report = run(cache, teacher, ["idea"])
            assert (report.calls, dict(report.failed)) == (0, {"refused": 1})


def test_a_transient_error_is_asked_again_in_the_same_build_and_counted(cache):
    with chat_server(lambda text, number: error(500) if number < 3 else "seen") as chat:
        report = run(cache, painter(chat.spec), TEXTS[:2])
    assert (report.rewritten, report.drawn, report.calls) == (2, 2, 8)
    assert chat.requested == {text: 3 for text in TEXTS[:2]}
    assert read_rewrites(cache, rewriters(cache)[0])["attempts"].to_pylist() == [3, 3]


def test_a_dead_rewriter_ends_the_build_and_leaves_the_rows_missing(cache):
    with chat_server(lambda text, number: error(401, code="invalid_api_key")) as chat:
        teacher = painter(chat.spec)
        with pytest.raises(ArmadaError, match="HTTP 401"):
            run(cache, teacher)
    assert cache.failures(source_of_teacher(teacher)).num_rows == 0
    assert status(cache)[0].pictures == 0


@pytest.mark.parametrize(("calls", "rewritten", "pictures"), [(0, 0, 0), (7, 2, 4), (9, 3, 6), (18, 6, 12)])
def test_a_cap_on_calls_counts_both_and_rewrites_no_more_texts_than_it_can_draw(cache, calls, rewritten, pictures):
    with chat_server() as chat:
        report = run(cache, painter(chat.spec), samples=2, max_calls=calls)
        assert (report.rewritten, report.drawn) == (rewritten, pictures)
        assert report.calls_total <= calls
        assert report.stopped == ("" if pictures == 12 else "budget")
        assert run(cache, painter(chat.spec), samples=2).calls_total == 18
    assert chat.requested == Counter(TEXTS)


def test_a_budget_holds_for_both_prices_and_agrees_with_plan_status_and_ledger(cache):
    def teacher():
        return painter(f"{OWN}?price=0.01", f"{FAKE}?price=0.1")

    source = source_of_teacher(teacher())
    encoder = source_of_encoder(fakes.encoder())
    plan = make_plan(cache, source, encoder, make_requests(source, TEXTS, 2))
    assert (plan.rewrites, plan.calls) == (6, 12)
    planned = plan.calls * 0.1 + rewriting_usd(cache, plan, teacher())
    assert planned == pytest.approx(1.26)
    report = run(cache, teacher(), samples=2, budget_usd=0.50)
    assert (report.rewritten, report.drawn, report.stopped) == (2, 4, "budget")
    assert report.cost_usd == pytest.approx(0.42)
    report = run(cache, teacher(), samples=2, budget_usd=planned)
    assert (report.drawn, report.stopped) == (8, "")
    (of_teacher,), (of_rewriter,) = status(cache), rewriter_status(cache)
    assert of_teacher.cost_usd + of_rewriter.cost_usd == pytest.approx(planned) == pytest.approx(report.cost_usd_total)


def test_a_budget_in_dollars_needs_the_price_of_a_text(cache):
    with pytest.raises(ArmadaError, match="--budget-usd: this rewriter has no known price"):
        run(cache, painter(OWN, f"{FAKE}?price=0.1"), budget_usd=5.0)


def test_an_own_rewriter_that_answers_oddly_fails_for_these_texts_only(cache):
    teacher = painter(OWN)
    report = run(cache, teacher, ["none", "number", "half", "empty", "fine"])
    assert (report.drawn, dict(report.failed)) == (1, {"blank": 1, "undecodable": 3})
    assert drawn(cache, teacher) == {"fine": "seen: fine"}


def test_a_text_with_instructions_and_paths_is_only_text(cache, tmp_path):
    odd = ["../../etc/passwd", "{text} {0}", "a\x00b\x1b[2J", '"; DROP TABLE rows;--', "x" * 50_000]
    with chat_server(lambda text, number: text) as chat:
        teacher = painter(chat.spec, template="see {text}")
        report = run(cache, teacher, odd)
    assert dict(report.failed) == {"undecodable": 1}
    assert sorted(drawn(cache, teacher).values()) == sorted(
        f"see {text}" for text in ("../../etc/passwd", "{text} {0}", "a b [2J", odd[3])
    )


def test_two_builds_at_once_ask_for_no_text_twice(cache, tmp_path):
    with chat_server() as chat, ThreadPoolExecutor(2) as pool:
        builds = [
            pool.submit(lambda: run(Cache(str(tmp_path / "cache")), painter(chat.spec), [f"t{i}" for i in range(30)]))
            for _ in range(2)
        ]
        reports = [one.result() for one in builds]
    assert set(chat.requested.values()) == {1}
    assert sum(report.rewritten for report in reports) == sum(report.drawn for report in reports) == 30


def test_what_was_rewritten_before_the_teacher_failed_is_kept(cache):
    with chat_server() as chat, serving(lambda prompt, number: "code 401 invalid_api_key") as images:
        teacher = painter(chat.spec, f"openai:tiny?base_url={images.url}")
        with pytest.raises(ArmadaError):
            run(cache, teacher)
        assert read_rewrites(cache, rewriters(cache)[0]).num_rows == len(TEXTS)
        images.plan = lambda prompt, number: "ok"
        report = run(cache, painter(chat.spec, f"openai:tiny?base_url={images.url}"))
    assert (report.rewritten, report.drawn) == (0, 6)
    assert chat.requested == Counter(TEXTS)
