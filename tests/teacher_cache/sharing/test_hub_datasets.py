"""`datasets.load_dataset` on a folder of a cache: pictures and features are typed columns, each row once."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from teacher_cache import Cache, Picture, PullFilter, build, compact, pull, push
from tests import fakes
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built


@pytest.fixture(autouse=True)
def _datasets_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf-datasets"))


def load(folder, name=None):
    return datasets.load_dataset(str(folder), name, split="train", cache_dir=datasets.config.HF_DATASETS_CACHE)


def check_pictures(rows, prompts=PROMPTS):
    assert isinstance(rows.features["png"], datasets.Image)
    assert rows.features["json"]["prompt"] == datasets.Value("string")
    assert rows.features["json"]["cost_usd"] == datasets.Value("float64")
    assert sorted(row["prompt"] for row in rows["json"]) == sorted(prompts)
    row = rows[0]
    assert row["png"].size == (16, 16)
    (expected,) = fakes.teacher().draw([_request(row)])
    assert np.array_equal(np.asarray(row["png"]), np.asarray(Image.open(io.BytesIO(expected.data))))


def _request(row):
    from teacher_cache import Request
    from teacher_cache.keys import seed_of

    return Request(row["__key__"], row["json"]["prompt"], 0, seed_of(row["__key__"]))


def test_a_pulled_folder_loads_as_pictures_with_prompts_and_as_features_of_each_encoder_for_the_hub(tmp_path):
    source, url = built(tmp_path / "a"), f"memory://hub-{tmp_path.name}"
    build(Cache(str(source)), PROMPTS, fakes.teacher(), fakes.encoder(dimension=4), SMALL)
    push(str(source), url)
    pull(url, str(tmp_path / "b"))
    cache = Cache(str(tmp_path / "b"))
    (teacher,) = cache.teachers()
    encoders = cache.encoders(teacher)
    assert len(encoders) == 2
    assert set(datasets.get_dataset_config_names(str(tmp_path / "b"))) == {encoder.name for encoder in encoders}
    check_pictures(load(tmp_path / "b" / "images" / teacher.name))
    for encoder in encoders:
        rows = load(tmp_path / "b", encoder.name)
        feature = rows.features["feature"]
        assert (feature.length, feature.feature) == (encoder.spec["dimension"], datasets.Value("float16"))
        assert rows.features["image_key"] == datasets.Value("string")
        assert len(rows) == len(PROMPTS)
    pull(url, str(tmp_path / "c"), PullFilter(encoder=encoders[0].name))
    assert datasets.get_dataset_config_names(str(tmp_path / "c")) == [encoders[0].name]


def test_a_compacted_folder_loads_each_row_once_although_the_replaced_shards_are_there(tmp_path):
    folder = built(tmp_path / "a")
    compact(Cache(str(folder)))
    build(Cache(str(folder)), [*PROMPTS, "new"], fakes.teacher(), fakes.encoder(), SMALL)
    assert len(list(folder.rglob("*.tar"))) == 5
    check_pictures(load(next(folder.glob("images/*"))), [*PROMPTS, "new"])
    (encoder,) = datasets.get_dataset_config_names(str(folder))
    assert len(load(folder, encoder)) == len(PROMPTS) + 1


def test_pictures_of_several_formats_load_together(tmp_path):
    class Mixed(fakes.FakeTeacher):
        def _answer(self, request):
            stream = io.BytesIO()
            Image.open(io.BytesIO(fakes.png(request.seed))).save(stream, "WEBP", lossless=True)
            data = stream.getvalue() if request.seed % 2 else fakes.png(request.seed)
            return Picture(request.image_key, data, "png")

    folder = tmp_path / "a"
    build(Cache(str(folder), create=True), PROMPTS, Mixed(fakes.Spec("fake", "", {}, "fake")), fakes.encoder())
    rows = load(next(folder.glob("images/*")))
    assert {name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)} == {"png", "webp"}
    assert all((row["png"] is None) != (row["webp"] is None) for row in rows)
