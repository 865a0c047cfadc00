"""`armada cache push`, `pull` and `sync` on the command line: one JSON object, exit codes, a student from a part."""

import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from tests.distill.tiny import save_student
from tests.pipelines.cli import FAKES, armada
from tests.teacher_cache.sharing.caches import PROMPTS, built
from tests.teacher_cache.sharing.conftest import bucket, s3_server

__all__ = ["bucket", "s3_server"]


def run(*words):
    return CliRunner().invoke(app, ["cache", *map(str, words)])


def test_push_pull_and_sync_print_one_json_object_with_what_was_sent_and_what_was_there(tmp_path):
    source, remote = built(tmp_path / "a"), tmp_path / "remote"
    counted = json.loads(run("push", source, remote, "--dry-run", "--json").stdout)
    assert counted["dry_run"]
    assert not remote.exists()
    done = json.loads(run("push", source, remote, "--json").stdout)
    assert done["files_sent"] == counted["files_sent"] > 10
    assert done["bytes_sent"] == counted["bytes_sent"] > 1000
    again = json.loads(run("push", source, remote, "--json").stdout)
    assert (again["files_sent"], again["bytes_sent"], again["files_there"]) == (0, 0, done["files_sent"])
    pulled = run("pull", remote, tmp_path / "b", "--encoder", "fake-encoder", "--json")
    assert json.loads(pulled.stdout)["left_out"] == 3
    assert json.loads(run("sync", tmp_path / "c", remote, "--json").stdout)["files_sent"] == done["files_sent"]
    assert "files sent" in run("sync", tmp_path / "c", remote).stdout


def test_pull_of_a_task_reads_its_prompts_as_a_build_does(tmp_path):
    source = built(tmp_path / "a")
    (tmp_path / "p.csv").write_text(f"line\n{PROMPTS[0]}\n")
    result = run("pull", source, tmp_path / "b", "--task", tmp_path / "p.csv", "--text-column", "line", "--json")
    assert json.loads(result.stdout)["left_out"] == 4
    assert len(list((tmp_path / "b").rglob("*.tar"))) == 1
    result = run("pull", source, tmp_path / "b", "--task", "no-such-task")
    assert result.exception.exit_code == 2
    result = run("pull", source, tmp_path / "b", "--text-column", "line")
    assert "--task FILE" in str(result.exception)


def test_a_push_with_a_damaged_file_exits_with_3_and_names_it(tmp_path):
    source = built(tmp_path / "a")
    tar = next(source.rglob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    result = run("push", source, tmp_path / "remote")
    assert result.exit_code == 3
    assert tar.name in result.stderr
    assert "1 commits that name them were not sent" in result.stderr
    result = run("push", source, tmp_path / "remote", "--json")
    assert result.exit_code == 3
    assert list(json.loads(result.stdout)["refused"]) == [str(tar.relative_to(source))]


@pytest.mark.parametrize("command", ["push", "pull", "sync"])
def test_push_pull_and_sync_without_a_cache_exit_with_2_and_one_line(tmp_path, command):
    result = run(command, tmp_path / "nothing", tmp_path / "target")
    assert result.exception.exit_code == 2
    assert "no cache here" in str(result.exception)
    assert not (tmp_path / "target").exists()


@pytest.mark.slow
def test_a_student_trains_from_features_pulled_out_of_an_s3_bucket_alone(tmp_path, bucket):
    """The build goes straight into the bucket; the student's machine has no pictures, and then no bucket either."""
    rows = [f"good plane number {i},{('negative', 'neutral', 'positive')[i % 3]}" for i in range(20)]
    (tmp_path / "rows.csv").write_text("text,sentiment\n" + "\n".join(rows) + "\n")
    student, part = save_student(tmp_path / "student"), tmp_path / "part"
    built_there = armada("cache", "build", tmp_path / "rows.csv", *FAKES, "--cache", bucket.url)
    assert built_there.returncode == 0, built_there.stderr
    assert run("pull", bucket.url, part, "--teacher", FAKES[1], "--encoder", FAKES[3]).exit_code == 0
    assert not list(part.rglob("*.tar"))
    words = ("train", "--task", "demo/sentiment", "--student", student, "--batch-size", 8, "--max-steps", 2)
    words = (*words, "--data-files", tmp_path / "rows.csv")
    from_bucket = armada(*words, "--cache", bucket.url, "--out", tmp_path / "from-bucket", "--json")
    assert from_bucket.returncode == 0, from_bucket.stderr
    for path in bucket.paths():
        bucket.remove(path)
    from_part = armada(*words, "--cache", part, "--out", tmp_path / "from-part", "--json")
    assert from_part.returncode == 0, from_part.stderr
    assert json.loads(from_part.stdout)["metrics"] == json.loads(from_bucket.stdout)["metrics"]
