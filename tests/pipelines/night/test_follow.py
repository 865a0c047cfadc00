"""The live page and `status --watch` follow a build of another process, and a cache that nobody builds."""

import contextlib
import io
import re
import select
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

import pytest
from rich.console import Console
from uvicorn import Config, Server

from pipelines.gallery.server import make_app
from pipelines.night.progress import Watcher, progress_of
from pipelines.night.terminal import table, watch
from teacher_cache import Cache, Minute, Run, state_folder
from teacher_cache.spool.run_log import RunLog
from tests.pipelines.cli import FAKES, command, environment
from tests.pipelines.galleries import request
from tests.pipelines.gallery.test_browser import faults, opened
from tests.pipelines.night.nights import SCRIPT, night_of, write_prompts

PROMPTS = [f"a quiet picture of thing number {i}" for i in range(300)]
PROMPTS[3:3] = ["[refused] a crowd", f"[refused] {SCRIPT}"]
PACED = ("--teacher", "tests.pipelines.night.nights:PacedTeacher?price=0.04", *FAKES[2:])


@contextlib.contextmanager
def started(*words, **extra):
    """Run a command in the background and interrupt it at the end."""
    process = subprocess.Popen(
        command(*words), env=environment(**extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@contextlib.contextmanager
def serving(cache, *, follows=True):
    """Serve a gallery in this process and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = Config(make_app(cache, follows=follows), log_level="warning", lifespan="off", ws="none")
        server = Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


@dataclass
class Night:
    cache: Cache
    address: str  # of the gallery
    build: subprocess.Popen
    go: object  # the file that lets the build finish


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Yield a cache that another process builds slowly, and the address of a third one that serves it."""
    folder = tmp_path_factory.mktemp("night")
    homes = {"XDG_STATE_HOME": folder / "state", "XDG_CACHE_HOME": folder / "home"}
    words = ("cache", "build", write_prompts(folder, PROMPTS), *PACED, "--cache", folder / "c", "--seal-rows", 16)
    cache, go = Cache(str(folder / "c"), create=True), folder / "go"
    browse = ("cache", "browse", folder / "c", "--follow", "--port", 0, "--no-open")
    with started(*browse, **homes) as server, started(*words, **homes, ARMADA_TEST_GO=go) as build:
        assert select.select([server.stdout], [], [], 60)[0], "it waits for the build, which does not begin"
        address = server.stdout.readline().strip()
        assert address.endswith("/live")
        yield Night(cache, address.removesuffix("live"), build, go)


@pytest.fixture
def in_state(night, monkeypatch):
    """Use the state of the night's build in this process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(night.go.parent / "state"))


def test_the_live_page_follows_a_build_of_another_process(browser, night):
    with opened(browser, night.address) as page:
        page.get_by_role("link", name="Live").click()
        page.locator(".big").wait_for()
        page.locator(".card img").first.wait_for()
        before = answered(page)
        until(lambda: answered(page) > before)
        page.locator("td", has_text=re.compile("@")).first.wait_for(timeout=60_000)  # a commit, and who made it
        for width, scheme in ((390, "dark"), (1200, "light"), (390, "light"), (1200, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            assert faults(page) == [], (width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        text = page.locator("main").inner_text()
        assert "answers a minute, over the last ten minutes" in text
        assert re.search(r"left\s+[\d.]+ \w+ at this pace", text)
        assert re.search(r"\$\d+\.\d\d", text)
        assert "2 refused" in text
        assert SCRIPT[:40] in text
        until(lambda: all_shown(page))


def answered(page):
    """Return the number of answered calls on the live page."""
    return int(page.locator(".big").inner_text().split()[0])


def shown(watcher):
    """Return what `status --watch` shows on a terminal now."""
    screen = io.StringIO()
    Console(file=screen, width=110, force_terminal=True, color_system=None).print(table(watcher.look()))
    return screen.getvalue()


def all_shown(page):
    return page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 1)")


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_live_page_and_its_pictures_are_refused_to_other_hosts_and_methods(night):
    assert request(night.address, "/live", "POST")[0] == 405
    assert request(night.address, "/live", Host="evil.example")[0] == 400
    assert request(night.address, "/live/picture/" + "0" * 64)[0] == 404
    status, headers, _ = request(night.address, "/live")
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_watching_in_a_log_ends_when_the_build_has_ended(night, in_state):
    pauses = []

    def sleep(_):
        pauses.append(1)
        time.sleep(0.3)
        if len(pauses) == 12:
            night.go.touch()

    log, watcher = io.StringIO(), Watcher(night.cache)
    until(lambda: "refused 2" in shown(watcher))
    screen = shown(watcher)
    last = watch(watcher, 0.3, Console(file=log), sleep)
    lines = log.getvalue().splitlines()
    counts = [int(found[1]) for line in lines if (found := re.search(r"rows\.jsonl: (\d+)/302", line))]
    assert len(set(counts)) >= 2
    assert counts == sorted(counts)
    assert "no build runs on this host; the last one finished at" in lines[-1]
    assert "300 pictures, 2 refused, 302 calls, 12.08 USD" in lines[-1]
    assert "\x1b" not in log.getvalue()
    assert night.build.wait(timeout=60) == 3
    assert (last.running, last.last.stopped, last.last.calls) == ((), "", 302)
    assert re.search(r"rows\.jsonl.*\d+/302.*/min", screen)


def test_the_page_of_a_cache_that_nobody_builds_says_so_and_nothing_is_written(browser, cache, tmp_path):
    night_of(cache, PROMPTS[:30])
    files = sorted((tmp_path / "cache").rglob("*"))
    with serving(cache) as address, opened(browser, address) as page:
        page.get_by_role("link", name="Live").click()
        assert page.locator(".notice").inner_text().startswith("No build runs on this host. The last one finished")
        assert page.locator(".card img").count() == 12
        until(lambda: all_shown(page))
    assert sorted((tmp_path / "cache").rglob("*")) == files
    assert not [path for path in state_folder().rglob("*") if path.name.endswith(("-wal", "-shm"))]


def test_without_follow_there_is_no_live_page(cache):
    night_of(cache, PROMPTS[:5])
    with serving(cache, follows=False) as address:
        assert request(address, "/live")[0] == 404
        assert b"/live" not in request(address, "/")[2]


def test_a_killed_build_is_known_by_its_silence(cache):
    night_of(cache, PROMPTS[:5])
    (spool,) = (state_folder() / "spools").glob("*/spool.sqlite")
    run = Run("killed", cache.teachers()[0].name, "", "rows.jsonl", time.time(), 9, 0, 9)
    log = RunLog(spool.parent, run)
    with log:
        assert [one.run.build for one in Watcher(cache).look().running] == ["killed"]
        later = Watcher(cache, clock=lambda: time.time() + 60).look()
        assert later.running == ()
        assert (later.last.build, later.last.ended) == ("killed", None)


def test_watching_a_cache_that_nobody_builds_ends_at_once_and_json_is_refused(cache, run):
    night_of(cache, PROMPTS[:5])
    code, output, _ = run("cache", "status", cache.store, "--watch")
    assert (code, len(output.splitlines())) == (0, 1)
    assert "no build runs on this host; the last one finished" in output
    code, _, errors = run("cache", "status", cache.store, "--watch", "--json")
    assert (code, "--watch: expected no --json" in errors) == (2, True)


def test_pace_and_what_is_left_are_those_of_the_last_ten_minutes():
    run = Run("a", "t", "e", "", 0.0, 5000, 0, planned=5000, seen=6000.0, drawn=2000, failed=0)
    minutes = [Minute("a", at, 60 if at < 50 else 6, 0, 60, 0.0) for at in range(100)]
    found = progress_of(run, [*minutes, Minute("b", 99, 1000, 0, 0, 0.0)])
    assert found.per_minute == pytest.approx(6)
    assert found.seconds_left == pytest.approx(60 * 3000 / 6)
