"""`build --notify URL` posts one JSON at the end, at the budget and on an error. No secret is in it, or anywhere."""

import socket
import time
from pathlib import Path

import pytest

from pipelines.night import notification
from pipelines.night.notification import Notifier
from teacher_cache import ArmadaError
from tests.pipelines.cli import FAKES
from tests.pipelines.night.nights import PROMPTS, receiver, write_prompts

TEACHERS = "tests.pipelines.night.nights"
SECRETS = ("PASS-w0rd", "QUERY-t0ken", "sk-env-SECRET", "T0KEN-in-path", "USER-pw")


@pytest.fixture
def build(run, tmp_path, monkeypatch):
    """Return a function that builds with --notify to a receiver of this test, and returns the result of `run`."""
    monkeypatch.setenv("MY_API_KEY", "sk-env-SECRET")
    prompts = write_prompts(tmp_path)

    def command(port, *words, specs=FAKES):
        url = f"http://me:USER-pw@127.0.0.1:{port}/hook/T0KEN-in-path?token=QUERY-t0ken"
        return run("cache", "build", prompts, *specs, "--cache", tmp_path / "c", "--notify", url, *words)

    return command


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_finished_build_posts_one_json_with_its_numbers_and_its_page(build, tmp_path):
    with receiver() as kept:
        code, report, errors = build(kept.port, "--json")
    facts = kept.facts
    assert code == 3
    assert (facts["event"], facts["exit_code"], facts["error"]) == ("finished", 3, "")
    assert (facts["requested"], facts["pictures"], facts["drawn"], facts["calls"]) == (48, 41, 41, 48)
    assert facts["failed"] == {"refused": 5, "blank": 1, "transient": 1}
    assert facts["text"].startswith(f"armada: {tmp_path / 'c'} has 41 of 48 pictures, 5 refused")
    assert facts["page"] == report["report"]
    assert "41 of 48 requested pictures" in Path(report["report"]).read_text("utf-8")
    path, headers, _ = kept.received[0]
    assert path == "/hook/T0KEN-in-path?token=QUERY-t0ken"
    assert headers["Authorization"] == "Basic bWU6VVNFUi1wdw=="
    assert "warning" not in errors


def test_the_budget_is_posted(build):
    with receiver() as kept:
        code, _, _ = build(kept.port, "--max-calls", "20")
    assert code == kept.facts["exit_code"] == 4
    assert kept.facts["event"] == "budget"
    assert kept.facts["missing"] + kept.facts["pictures"] + sum(kept.facts["failed"].values()) == len(PROMPTS)
    assert "--max-calls" in kept.facts["next"]


def test_ctrl_c_is_posted_and_what_is_drawn_stays(build):
    with receiver() as kept:
        code, _, _ = build(kept.port, specs=("--teacher", f"{TEACHERS}:InterruptedTeacher", *FAKES[2:]))
    assert code == kept.facts["exit_code"] == 130
    assert (kept.facts["event"], kept.facts["pictures"] > 0) == ("interrupted", True)


def test_an_error_of_the_teacher_is_posted_with_the_page_and_no_secret_is_anywhere(build, tmp_path):
    with receiver() as kept:
        code, output, errors = build(kept.port, specs=("--teacher", f"{TEACHERS}:DeadTeacher", *FAKES[2:]))
    facts = kept.facts
    assert code == facts["exit_code"] == 2
    assert (facts["event"], facts["error"]) == ("error", "https://draw.example/v1 ***")
    assert facts["pictures"] == 5
    page = Path(facts["page"]).read_text("utf-8")
    assert "Stopped by an error" in page
    assert facts["page"] in errors
    kept_everywhere = written(tmp_path).decode("utf-8", "replace") + output + repr(facts)
    assert [secret for secret in SECRETS if secret in kept_everywhere] == []


def test_an_error_before_the_build_begins_is_posted(build, tmp_path):
    (tmp_path / "rows.jsonl").unlink()
    with receiver() as kept:
        code, _, _ = build(kept.port)
    assert code == kept.facts["exit_code"] == 2
    assert kept.facts["event"] == "error"
    assert "rows.jsonl" in kept.facts["error"]


def test_an_error_before_the_first_call_is_posted_and_needs_no_page(build, tmp_path):
    with receiver() as kept:
        code, _, errors = build(kept.port, "--budget-usd", "1")
    assert (code, kept.facts["event"], "page" in kept.facts) == (2, "error", False)
    assert len(errors.splitlines()) == 1
    assert not list((tmp_path / "user-state").rglob("*.html"))


def test_a_receiver_that_is_not_there_is_one_warning_and_fails_nothing(build):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, _, errors = build(port)
    assert code == 3
    assert errors.count("warning:") == 1
    assert f"127.0.0.1:{port} was not notified: ConnectionRefusedError" in errors
    assert not [secret for secret in SECRETS if secret in errors]


def test_a_redirect_is_not_followed_and_an_error_is_named():
    with receiver() as other, receiver(302, f"http://127.0.0.1:{other.port}/") as first:
        warning = Notifier(f"http://127.0.0.1:{first.port}/T0KEN-in-path").post({})
        assert "it answered 302, a redirect, which is not followed" in warning
        assert "T0KEN" not in warning
        assert other.received == []
    with receiver(500) as kept:
        assert "it answered 500" in Notifier(f"http://127.0.0.1:{kept.port}/").post({})


def test_a_receiver_that_never_answers_delays_the_end_by_the_timeout_at_most(monkeypatch):
    monkeypatch.setattr(notification, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert "was not notified" in Notifier(f"http://127.0.0.1:{silent.getsockname()[1]}/").post({})
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "url", ["ftp://x.example/S3CRET", "https://", "S3CRET", "http://x y/S3CRET", "http://h:S3CRET/"]
)
def test_an_address_that_is_none_is_refused_before_anything_is_drawn_and_is_not_repeated(run, tmp_path, url):
    with pytest.raises(ArmadaError, match="expected http") as error:
        Notifier(url)
    assert "S3CRET" not in str(error.value)
    code, _, errors = run("cache", "build", "x.txt", *FAKES, "--cache", tmp_path / "c", "--notify", url)
    assert (code, "S3CRET" in errors, (tmp_path / "c").exists()) == (2, False, False)


def test_the_address_may_come_from_the_environment(run, tmp_path, monkeypatch):
    with receiver() as kept:
        monkeypatch.setenv("ARMADA_NOTIFY", f"http://127.0.0.1:{kept.port}/T0KEN-in-path")
        run("cache", "build", write_prompts(tmp_path), *FAKES, "--cache", tmp_path / "c", "--report", "none")
    assert kept.facts["page"] == ""
    assert not list((tmp_path / "user-state").rglob("*.html"))
