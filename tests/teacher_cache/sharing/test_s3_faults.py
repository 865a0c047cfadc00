"""What goes wrong with an S3 store: each error is one clear sentence, nothing is lost, and the same command goes on."""

import os
import random
import signal

import fsspec
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from teacher_cache import BuildOptions, Cache, CacheError, PullFilter, build, pull, push, verify
from teacher_cache.files.store import Store
from teacher_cache.files.store_errors import UnavailableStoreError
from tests import fakes
from tests.faults.forked import start, wait
from tests.teacher_cache.maintenance.caches import rows_of
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built, costs_nothing
from tests.teacher_cache.sharing.s3_server import CuttingProxy

pytestmark = pytest.mark.faults


def test_s3_pull_names_an_object_that_was_corrupted_and_fetches_the_others(tmp_path, bucket):
    push(str(built(tmp_path / "a")), bucket.url)
    tar = bucket.paths(".tar")[0]
    data = bytearray(bucket.read(tar))
    data[600] ^= 1
    bucket.write(tar, bytes(data))
    done = pull(bucket.url, str(tmp_path / "b"))
    assert tar in next(iter(done.refused.values()))
    assert "sha256 differs from the commit's" in done.refused[tar]
    assert done.commits_held_back == 1
    assert not (tmp_path / "b" / tar).exists()
    assert len(list((tmp_path / "b").rglob("*.tar"))) == 2
    assert {problem.path for problem in verify(bucket.url, repair=True).problems} == {tar}
    assert push(str(tmp_path / "a"), bucket.url).is_whole
    assert pull(bucket.url, str(tmp_path / "b")).is_whole
    assert rows_of(Cache(str(tmp_path / "b"))) == rows_of(Cache(str(tmp_path / "a")))
    assert costs_nothing(tmp_path / "b")


def test_s3_pull_names_an_object_that_disappeared_and_a_push_brings_it_back(tmp_path, bucket, monkeypatch):
    push(str(built(tmp_path / "a")), bucket.url)
    first, second = bucket.paths(".tar")[:2]
    bucket.remove(first)
    plain, gone = Store.copy_to, []

    def copy_to(store, name, path, size=-1):
        if name == second and second not in gone:  # after it was listed
            bucket.remove(second)
            gone.append(second)
        plain(store, name, path, size)

    monkeypatch.setattr(Store, "copy_to", copy_to)
    done = pull(bucket.url, str(tmp_path / "b"))
    assert done.missing == [first]
    assert "no such file" in done.refused[second]
    assert done.commits_held_back == 2
    with pytest.raises(CacheError, match="lacks 2 files that its commits name"):
        build(Cache(bucket.url), PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    assert push(str(tmp_path / "a"), bucket.url).files_sent == 2
    assert pull(bucket.url, str(tmp_path / "b")).is_whole
    assert costs_nothing(tmp_path / "b")


REFUSALS = {
    "ExpiredToken": "the credentials have expired; renew them",
    "AccessDenied": r"access is denied \(403\)",
    "InvalidAccessKeyId": r"refuses the credentials \(InvalidAccessKeyId\)",
}


WHEN = ("at once", "after some puts", "at the first commit")
QUICK = (("ExpiredToken", "after some puts"), ("ExpiredToken", "at the first commit"), ("AccessDenied", "at once"))


@pytest.mark.parametrize(
    ("code", "when"),
    [
        pytest.param(code, when, marks=() if (code, when) in QUICK else pytest.mark.slow)
        for code in REFUSALS
        for when in WHEN
    ],
)
def test_s3_that_refuses_the_credentials_stops_a_push_with_one_sentence(tmp_path, bucket, code, when):
    source = built(tmp_path / "a")
    puts = []

    def refuse(request):
        puts.append(request) if request.startswith("PUT") else None
        late = {"at once": True, "after some puts": len(puts) > 3, "at the first commit": "commits/" in request}[when]
        return code if late and request.startswith("PUT" if when == "at the first commit" else ("PUT", "GET")) else None

    bucket.server.refuse = refuse
    with pytest.raises(UnavailableStoreError, match=REFUSALS[code]) as error:
        push(str(source), bucket.url)
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)
    assert str(error.value).startswith(bucket.url)
    bucket.server.refuse = lambda request: None
    assert bucket.paths("commits/") == []
    before = len(bucket.paths())
    assert (before > 0) is (when != "at once")
    done = push(str(source), bucket.url)
    assert done.is_whole
    assert rows_of(Cache(bucket.url)) == rows_of(Cache(str(source)))


def test_s3_credentials_that_expire_in_a_build_end_it_with_one_sentence_and_lose_no_picture(tmp_path, bucket):
    teacher = fakes.teacher()
    expire = lambda request: "ExpiredToken" if request.startswith("PUT") and "/shards/" in request else None  # noqa: E731
    cache = Cache(bucket.url, create=True)
    bucket.server.refuse = expire
    with pytest.raises(CacheError, match="the credentials have expired"):
        build(cache, PROMPTS, teacher, fakes.encoder(), BuildOptions(shard_rows=4, seal_rows=100))
    bucket.server.refuse = lambda request: None
    again = fakes.teacher()
    build(Cache(bucket.url), PROMPTS, again, fakes.encoder(), SMALL)
    assert sorted(teacher.calls + again.calls) == sorted(set(teacher.calls + again.calls))
    assert len(rows_of(Cache(bucket.url))) == len(PROMPTS)


@pytest.mark.parametrize(
    ("environment", "url", "words"),
    [
        ({}, "s3://no-such-bucket/x", "no such bucket"),
        pytest.param(
            {"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}, "s3://b/x", "can't be reached", marks=pytest.mark.slow
        ),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://b/x", "can't be reached"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://b/x", "no credentials were found"),
        ({}, "s3://AKIA123:topsecret@b/x", "no user and no password in the URL"),
        ({}, "s4://b/x", "no usable folder or URL"),
    ],
)
def test_a_push_to_s3_that_cannot_work_is_one_line_and_exit_code_2(
    tmp_path, bucket, monkeypatch, environment, url, words
):
    source = built(tmp_path / "a", PROMPTS[:1])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    commands = (["push", str(source), url], ["pull", url, str(tmp_path / "b")], ["verify", url])
    for arguments in commands[: 1 if words == "can't be reached" else None]:  # that takes s3fs some seconds
        result = CliRunner().invoke(app, ["cache", *arguments])
        assert getattr(result.exception, "exit_code", None) == 2, result.exception
        assert words in str(result.exception)
        assert len(str(result.exception).splitlines()) == 1
        assert "topsecret" not in str(result.exception) + result.output
    assert not (tmp_path / "b").exists()


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))]


@pytest.mark.parametrize("seed", SEEDS)
def test_s3_connections_cut_at_random_bytes_of_every_kind_of_request_lose_nothing(tmp_path, bucket, monkeypatch, seed):
    """Each kind of request (its method, and the folder of its object) is cut twice: while it is sent or answered."""
    source = built(tmp_path / "a")
    chance, cut = random.Random(seed), {}

    def choose(line):
        method, path, *_ = line.split()
        kind = (method, "list" if "list-type" in path else path.split("/")[3] if path.count("/") > 2 else path)
        cut[kind] = cut.get(kind, 0) + 1
        if cut[kind] > 2:
            return None, None
        return (
            (chance.randrange(1, 3000), None) if method == "PUT" and cut[kind] == 1 else (None, chance.randrange(600))
        )

    proxy = CuttingProxy(bucket.server.port, choose)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert push(str(source), bucket.url).is_whole
    assert bucket.paths(".tar")
    assert pull(bucket.url, str(tmp_path / "b")).is_whole
    proxy.stop()
    assert {line.split()[1] for line in proxy.cuts} >= {"PUT", "GET"}
    assert len(proxy.cuts) > 8
    assert rows_of(Cache(str(tmp_path / "b"))) == rows_of(Cache(str(source)))
    assert verify(str(tmp_path / "b")).problems == []


@pytest.mark.parametrize(
    "number", [1, pytest.param(4, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_killed_push_or_pull_leaves_no_commit_without_its_shards_and_continues(tmp_path, bucket, number, way):
    source, folder = built(tmp_path / "a"), tmp_path / "b"
    if way == "pull":
        push(str(source), bucket.url)
        killed = wait(start(lambda: pull(bucket.url, str(folder)), ARMADA_CRASH_POINT=f"store.renamed:{number}"))
        assert killed == -signal.SIGKILL
    else:
        puts = []

        def end(request):
            puts.append(request) if request.startswith("PUT") else None
            if len(puts) == number:
                os.kill(child, signal.SIGKILL)

        bucket.server.refuse = end
        child = start(lambda: push(str(source), bucket.url))
        assert wait(child) == -signal.SIGKILL
        bucket.server.refuse = lambda request: None
    for url in (str(folder), bucket.url) if way == "pull" else (bucket.url,):
        if Store(url).exists("cache.json"):
            assert not Cache(url).state.missing
    assert (push(str(source), bucket.url) if way == "push" else pull(bucket.url, str(folder))).is_whole
    assert verify(bucket.url if way == "push" else str(folder)).problems == []


def test_s3_secrets_of_the_environment_are_in_no_file(tmp_path, bucket):
    push(str(built(tmp_path / "a")), bucket.url)
    pull(bucket.url, str(tmp_path / "b"), PullFilter(encoder="fake-encoder"))
    build(Cache(bucket.url), [*PROMPTS, "new"], fakes.teacher(), fakes.encoder(), SMALL)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("spool" in str(path) for path in files)
    for path in files:
        assert b"not-so-secret" not in path.read_bytes(), path
    for key in bucket.paths():
        assert b"not-so-secret" not in bucket.read(key), key
