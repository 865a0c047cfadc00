"""Which changes of spec, prompt, sample or build options change a request's key, over random examples."""

import shutil
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
from hypothesis import given, settings, strategies as st

from teacher_cache import BuildOptions, Cache, Source, build, make_requests
from teacher_cache.keys import image_key, prompt_key, spec_digest
from tests import fakes

values = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8), st.booleans(), st.none()
)
specs = st.dictionaries(st.text(min_size=1, max_size=8), values, min_size=1, max_size=5)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def key(spec, text, sample):
    return image_key(spec_digest(spec), prompt_key(text), sample)


@given(spec=specs, text=texts, sample=st.integers(0, 9), data=st.data())
def test_a_change_of_any_single_part_changes_the_key(spec, text, sample, data):
    name = data.draw(st.sampled_from(sorted(spec)))
    other = data.draw(values.filter(lambda value: repr(value) != repr(spec[name])))
    same = key(spec, text, sample)
    assert key({**spec, name: other}, text, sample) != same
    assert key({**spec, name + "x": 1}, text, sample) != same
    assert key(spec, text + "x", sample) != same
    assert key(spec, text, sample + 1) != same


@given(spec=specs, text=texts, data=st.data())
def test_the_order_of_names_and_the_unicode_form_of_the_text_do_not_change_the_key(spec, text, data):
    shuffled = dict(data.draw(st.permutations(list(spec.items()))))
    forms = {key(shuffled, unicodedata.normalize(form, text), 0) for form in ("NFC", "NFD")}
    assert forms == {key(spec, text, 0)}


@given(prompts=st.lists(texts, max_size=12), samples=st.integers(1, 3), limit=st.none() | st.integers(1, 5))
def test_requests_are_the_unique_prompts_in_their_order_times_the_samples(prompts, samples, limit):
    teacher = Source({"kind": "t"}, spec_digest({"kind": "t"}))
    unique = list(dict.fromkeys(unicodedata.normalize("NFC", text) for text in prompts))[:limit]
    requests = make_requests(teacher, iter(prompts), samples, limit)
    assert (requests.rows, requests.unique_prompts, len(requests)) == (len(prompts), len(unique), len(unique) * samples)
    expected = [(image_key(teacher.digest, prompt_key(text), n), text, n) for text in unique for n in range(samples)]
    every = np.ones(len(requests), bool)
    wanted = list(requests.wanted(np.arange(len(requests)), np.arange(len(requests))))
    assert [(one.request.image_key, one.request.prompt, one.request.sample) for one in wanted] == expected
    assert [one.attempts for one in wanted] == list(range(len(requests)))
    assert list(requests.texts(every)) == [text for _, text, _ in expected]
    odd = np.arange(1, len(requests), 2)
    assert [one.request.image_key for one in requests.wanted(odd, every)] == [key for key, _, _ in expected[1::2]]


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations([f"prompt {i}" for i in range(9)]),
    again=st.lists(st.integers(0, 8), max_size=5),
    shard_rows=st.integers(1, 12),
    seal_rows=st.integers(1, 12),
    batch_size=st.integers(1, 12),
    format=st.sampled_from(["parquet", "webdataset"]),
)
def test_a_cache_is_complete_for_any_path_order_repetition_batch_shards_and_format(
    order, again, shard_rows, seal_rows, batch_size, format
):
    folder = Path(tempfile.mkdtemp())
    try:
        options = BuildOptions(shard_rows=shard_rows, seal_rows=seal_rows, format=format)
        encoder = fakes.encoder()
        encoder.batch_size = batch_size
        report = build(Cache(str(folder / "here"), create=True), sorted(order), fakes.teacher(), encoder, options)
        assert (report.calls, report.encoded) == (9, 9)
        shutil.move(folder / "here", folder / "there")
        prompts = [*order, *(order[place] for place in again)]
        second = build(Cache(str(folder / "there")), prompts, fakes.teacher(), fakes.encoder())
        assert (second.calls, second.encoded, second.unique_prompts) == (0, 0, 9)
    finally:
        shutil.rmtree(folder)
