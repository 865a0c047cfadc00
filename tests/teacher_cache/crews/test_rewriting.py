"""Workers and a recipe: one process rewrites the texts, the workers draw, and one budget holds for both."""

import json

import pytest

from teacher_cache import Cache, view_spool
from teacher_cache.crews.allowances import Allowances
from teacher_cache.format.commits import Spent
from tests.pipelines.cli import FAKES
from tests.pipelines.run.test_mending import armada
from tests.teacher_cache.chat_server import chat_server
from tests.teacher_cache.crews.builds import content

ROWS = 40


@pytest.fixture
def prompts(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"freedom number {i}\n" for i in range(ROWS)))
    return path


def test_workers_draw_what_one_process_rewrites_within_one_budget(prompts, tmp_path):
    cache = tmp_path / "cache"
    with chat_server() as chat:
        recipe = ("--prompt-template", "an oil painting: {text}", "--rewrite", f"{chat.spec}&price=0")
        build = ("cache", "build", prompts, *FAKES, *recipe, "--json")
        few = armada(*build, "--cache", cache, "--workers", 2, "--max-calls", 30)
        assert few.exit_code == 4, few.stderr
        report = json.loads(few.stdout)
        assert (report["rewritten"], report["drawn"], report["calls_total"]) == (15, 15, 30)
        (run,) = view_spool(Cache(str(cache))).runs
        assert (run.drawn, run.failed, run.calls, run.stopped) == (15, 0, 15, ""), "what the workers did, in the log"
        rest = armada(*build, "--cache", cache, "--workers", 2)
        assert rest.exit_code == 0, rest.stderr
        assert json.loads(rest.stdout)["calls_total"] == 2 * ROWS
        assert set(chat.requested.values()) == {1}
        single = armada(*build, "--cache", tmp_path / "single")
        assert single.exit_code == 0, single.stderr
    assert content(cache) == content(tmp_path / "single")


def test_what_a_rewriter_has_cost_elsewhere_counts_beside_what_the_teacher_has():
    spent = [Spent("other", "teacher", 4, 0.0), Spent("other", "rewriter", 3, 0.0), Spent("other", "rewriter", 2, 0.0)]
    allowances = Allowances(10, None, None, spent)
    allowances.spent(1, "a", (0, 0.0), 0, False)
    assert allowances.grant(1, 1, 9, 0, 1).calls == 3
