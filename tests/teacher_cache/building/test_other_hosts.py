"""Two hosts that build the same prompts at once share the work: each pays again at most for what is not sealed yet."""

from collections import Counter

from teacher_cache import (
    BuildOptions,
    Cache,
    build,
    make_plan,
    make_requests,
    source_of_encoder,
    source_of_teacher,
)
from teacher_cache.building.other_hosts import OtherHosts, RequestQueue
from teacher_cache.format.digests import to_hex
from tests import fakes
from tests.faults.forked import start, wait

PROMPTS = [f"prompt {number}" for number in range(120)]


def host(tmp_path, name):
    return {"ARMADA_HOST": name, "XDG_STATE_HOME": str(tmp_path / name), "XDG_CACHE_HOME": str(tmp_path / f"{name}-c")}


def test_two_hosts_that_build_the_same_prompts_at_once_pay_for_few_of_them_twice(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "cache"
    Cache(str(folder), create=True)
    options = BuildOptions(seal_rows=8)

    def run():
        build(Cache(str(folder)), PROMPTS, fakes.teacher(), fakes.encoder(), options)

    environment = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.03"}
    children = [start(run, **environment, **host(tmp_path, name)) for name in ("one", "two")]
    assert [wait(child) for child in children] == [0, 0]
    calls = Counter(log.read_text().splitlines())
    assert len(calls) == len(PROMPTS)
    assert calls.total() < 1.6 * len(PROMPTS)  # both would be 2.0
    teacher = fakes.teacher()
    build(Cache(str(folder)), PROMPTS, teacher, fakes.encoder(), options)
    assert teacher.calls == []


def test_requests_keep_the_order_of_the_prompts_until_another_host_commits_and_then_skip_what_it_made(cache):
    source, skipped = source_of_teacher(fakes.teacher()), []
    plan = make_plan(cache, source, source_of_encoder(fakes.encoder()), make_requests(source, PROMPTS))
    keys = to_hex(plan.requests.keys)
    others = OtherHosts(cache, source, "ab" * 16)
    queue = RequestQueue(plan, others, lambda: skipped.append(1))
    assert [next(queue).request.image_key for _ in range(10)] == keys[:10]
    others.keys |= set(keys[50:80])
    left = [row.request.image_key for row in queue]
    assert sorted(left) == sorted(keys[10:50] + keys[80:])
    assert left != keys[10:50] + keys[80:]
    assert len(skipped) == 30
