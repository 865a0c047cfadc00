"""The Hugging Face Hub by its library's own client, which talks to a stand-in on this host (see hub_server.py)."""

import io

import datasets
import huggingface_hub
import pyarrow.parquet as parquet
import pytest
import yaml
from huggingface_hub import constants
from PIL import Image

from teacher_cache import Cache, CacheError, build, pull, push, verify
from teacher_cache.files.store import Store
from teacher_cache.files.store_errors import UnavailableStoreError
from tests import fakes
from tests.teacher_cache.maintenance.caches import rows_of
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built, costs_nothing
from tests.teacher_cache.sharing.hub_server import HubServer

BUCKET, DATASET = "hf://buckets/team/cache/folder", "hf://datasets/team/cache"


@pytest.fixture
def hub(monkeypatch):
    server = HubServer()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._xet.get_xet_session", lambda: server.xet)
    monkeypatch.setenv("HF_TOKEN", "hf_notsosecrettoken")
    huggingface_hub.HfFileSystem.clear_instance_cache()
    yield server
    huggingface_hub.HfFileSystem.clear_instance_cache()
    server.stop()


def test_a_push_to_a_hub_bucket_is_few_batches_with_commits_last_and_is_pulled_whole(tmp_path, hub):
    source = built(tmp_path / "a")
    done = push(str(source), BUCKET)
    assert done.is_whole
    assert len(hub.batches) <= 4  # shards; commits with the records and the card; a checkpoint
    added = [line.removeprefix("addFile folder/") for batch in hub.batches for line in batch]
    commits = [place for place, path in enumerate(added) if path.startswith("commits/")]
    assert max(place for place, path in enumerate(added) if path.endswith((".tar", ".parquet"))) < min(commits)
    batches = len(hub.batches)
    assert push(str(source), BUCKET).files_sent == 0
    assert len(hub.batches) == batches
    assert pull(BUCKET, str(tmp_path / "b")).is_whole
    assert rows_of(Cache(str(tmp_path / "b"))) == rows_of(Cache(str(source))) == rows_of(Cache(BUCKET))
    assert verify(str(tmp_path / "b")).problems == verify(BUCKET).problems == []


def test_a_build_into_a_hub_bucket_makes_one_batch_call_for_all_files_of_a_seal(tmp_path, hub):
    build(Cache(BUCKET, create=True), PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    with_tar = [batch for batch in hub.batches if any(line.endswith(".tar") for line in batch)]
    assert len(with_tar) >= 3
    for batch in with_tar:
        assert [line.split("/")[-2] for line in batch] == ["shards", "indexes", "commits"]
    assert costs_nothing_without_failures(BUCKET)
    assert rows_of(Cache(BUCKET)) == rows_of(Cache(str(built(tmp_path / "a"))))


def costs_nothing_without_failures(url):
    teacher = fakes.teacher()
    build(Cache(url), PROMPTS, teacher, fakes.encoder(), SMALL)
    return teacher.calls == []


def test_a_hub_bucket_is_read_as_it_is_now(tmp_path, hub):
    mine = Cache(BUCKET, create=True)
    build(mine, PROMPTS[:4], fakes.teacher(), fakes.encoder(), SMALL)
    (teacher,) = mine.teachers()
    assert mine.images(teacher).num_rows == 4
    for path in built(tmp_path / "a").rglob("*"):
        if path.is_file() and path.relative_to(tmp_path / "a").parts[0] in ("images", "features", "commits"):
            hub.bucket[f"folder/{path.relative_to(tmp_path / 'a')}"] = path.read_bytes()
    mine.refresh()
    assert mine.images(teacher).num_rows == len(PROMPTS)


def test_a_hub_bucket_that_refuses_a_shard_of_a_batch_keeps_no_commit_of_it(tmp_path, hub):
    cache = Cache(BUCKET, create=True)
    (teacher,) = Cache(str(built(tmp_path / "a"))).teachers()
    tar = next(shard for shard in Cache(str(tmp_path / "a")).shards("images/"))
    hub.refuse = {f"folder/{tar.path}"}
    store = Store(BUCKET)

    def seal():
        with store.together():
            store.write(tar.path, b"tar")
            store.write(f"commits/{'a' * 64}.json", b"commit")

    with pytest.raises(CacheError, match="the Hub refused 1 of 2 files"):
        seal()
    assert not any("commits/" in path for path in hub.bucket)
    hub.refuse = set()
    assert cache.store.names("commits") == []
    assert teacher.name


def test_a_push_to_a_hub_dataset_is_few_git_commits_with_pictures_for_its_viewer(tmp_path, hub):
    source = built(tmp_path / "a")
    done = push(str(source), DATASET)
    assert done.is_whole
    assert len(hub.commits) == 3  # shards; pictures for the viewer; records, commits and the card
    assert push(str(source), DATASET).files_sent == 0
    assert len(hub.commits) == 3
    assert pull(DATASET, str(tmp_path / "b")).is_whole
    assert rows_of(Cache(str(tmp_path / "b"))) == rows_of(Cache(str(source))) == rows_of(Cache(DATASET))
    assert costs_nothing(tmp_path / "b")
    assert verify(DATASET).problems == []
    files = hub.revisions[-1][1]
    front = yaml.safe_load(files["README.md"].decode().split("---")[1])
    pictures, features = front["configs"]
    assert (pictures["config_name"], pictures["data_files"]) == ("pictures", "viewer/*/*.parquet")
    assert features["config_name"].startswith("fake-encoder-")
    copy = tmp_path / "clone"
    for path, data in files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    rows = datasets.load_dataset(str(copy), "pictures", split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(rows.features["image"], datasets.Image)
    assert sorted(rows["prompt"]) == sorted(PROMPTS)
    assert rows[0]["image"].size == (16, 16)
    shown = next(data for path, data in files.items() if path.startswith("viewer/"))
    first = parquet.read_table(io.BytesIO(shown)).to_pylist()[0]["image"]["bytes"]
    assert Image.open(io.BytesIO(first)).size == (16, 16)
    datasets.load_dataset(str(copy), features["config_name"], split="train", cache_dir=str(tmp_path / "cache"))


def test_a_reader_of_a_hub_dataset_keeps_its_revision_while_others_push(tmp_path, hub):
    push(str(built(tmp_path / "a", PROMPTS[:4])), DATASET)
    pinned, reader = hub.revisions[-1][0], Cache(DATASET)
    before = rows_of(reader)
    push(str(built(tmp_path / "b")), DATASET)
    reader.refresh()
    assert rows_of(reader) == before
    assert rows_of(Cache(f"{DATASET}@{pinned}")) == before
    assert len(rows_of(Cache(DATASET))) == len(PROMPTS)
    assert Store(DATASET).identity == Store(f"{DATASET}/").identity


def test_a_build_into_a_hub_dataset_is_refused_before_anything_is_paid(tmp_path, hub):
    push(str(built(tmp_path / "a", PROMPTS[:4])), DATASET)
    teacher = fakes.teacher()
    with pytest.raises(CacheError, match=r"a dataset repository is for publishing.*armada cache push CACHE hf://"):
        build(Cache(DATASET), PROMPTS, teacher, fakes.encoder(), SMALL)
    assert teacher.calls == []
    commits = len(hub.commits)
    with pytest.raises(CacheError, match="a dataset repository is for publishing"):
        Cache("hf://datasets/team/cache/other", create=True)
    assert len(hub.commits) == commits


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("hf://buckets/team/nothing", 0, "no such bucket, repository or revision"),
        ("hf://datasets/team/nothing", 0, "no such bucket, repository or revision"),
        (f"{DATASET}@nothing", 0, "no such bucket, repository or revision"),
        (BUCKET, 401, "refuses the credentials"),
        (BUCKET, 403, "access is denied"),
        (DATASET, 403, "access is denied"),
        (DATASET, 429, "allows no more requests"),
        ("hf://team/cache", 0, "expected hf://buckets/OWNER/NAME"),
        ("hf://datasets/team", 0, "expected hf://buckets/OWNER/NAME"),
        ("hf://hf_notsosecrettoken:x@buckets/team/cache", 0, "no user and no password"),
    ],
)
def test_errors_of_the_hub_are_one_sentence_without_the_token(tmp_path, hub, monkeypatch, url, status, words):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    source = built(tmp_path / "a", PROMPTS[:1])
    hub.status = status
    for act in (lambda: push(str(source), url), lambda: pull(url, str(tmp_path / "b"))):
        with pytest.raises(CacheError, match=words) as error:
            act()
        assert "notsosecret" not in str(error.value)
        assert len(str(error.value).splitlines()) == 1
        assert isinstance(error.value, UnavailableStoreError) or "expected" in str(error.value)
    assert not (tmp_path / "b").exists()


def test_the_token_of_the_hub_is_in_no_file(tmp_path, hub):
    push(str(built(tmp_path / "a")), BUCKET)
    pull(BUCKET, str(tmp_path / "b"))
    for data in [*hub.bucket.values(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]:
        assert b"notsosecret" not in data
