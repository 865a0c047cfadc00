"""Pictures of rewritten, templated texts, drawn in batches: what is sent is the drawn prompt, and the budget is one."""

import json

import pytest

from teacher_cache import BuildOptions, Cache, build, choose, open_features, open_teacher, with_recipe
from tests import fakes
from tests.teacher_cache.batches.batch_server import serving
from tests.teacher_cache.chat_server import chat_server

TEXTS = [f"idea {i}" for i in range(4)]


@pytest.mark.parametrize("fault", ["ok", "expired with half done"])
def test_two_samples_of_a_rewritten_text_come_by_batch_and_are_found_by_the_text(tmp_path, fault):
    cache = Cache(str(tmp_path / "cache"), create=True)
    with chat_server() as chat, serving(fault) as server:
        text = f"openai-batch:gpt-image-1-mini?base_url={server.url}&price=0.04&poll=0.02"
        spec = with_recipe(text, template="<{text}>", rewrite=f"{chat.spec}&price=0.001")
        run = lambda most: build(  # noqa: E731
            cache, TEXTS, open_teacher(spec), fakes.encoder(), BuildOptions(samples=2, wait=True, max_calls=most)
        )
        first = run(6)
        assert (first.rewritten, first.drawn, first.stopped) == (2, 4, "budget")
        last = run(None)
        assert (last.rewritten, last.drawn, last.calls_total) == (2, 4, 12)
        assert last.cost_usd_total == pytest.approx(4 * 0.001 + 8 * 0.02)
        assert set(server.paid.values()) == {1}
    assert set(chat.requested.values()) == {1}
    (source,) = cache.teachers()
    rows = cache.images(source, ["prompt", "drawn_prompt"]).to_pylist()
    assert {row["prompt"]: row["drawn_prompt"] for row in rows} == {text: f"<a scene of {text}>" for text in TEXTS}
    features = open_features(cache, *choose(cache, None, None))
    assert all((features.rows_of(TEXTS, sample) >= 0).all() for sample in (0, 1))
    assert "prompt_recipe" in json.loads(cache.store.read(f"images/{source.name}/teacher.json"))["spec"]
