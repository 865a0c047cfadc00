"""Preparing pictures while the model runs: the order is kept, memory is bounded, and an error names its picture."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from teacher_cache import CacheError
from teacher_cache.building.encoding import encode_pictures
from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.keys import sha256
from teacher_cache.registry.specs import Spec
from tests import fakes

PROMPTS = [f"prompt {row}" for row in range(50)]


class Sizes(ModelEncoder):
    """The feature is the picture's length and its prompt's number. Counts prepared pictures in memory; some pictures
    take longer than others."""

    dimension = 2

    def __init__(self, batch: int = 4) -> None:
        super().__init__(Spec("sizes", "", {"batch": str(batch), "device": "cpu"}, "sizes"), {})
        self.spec = self._full_spec({"kind": "sizes"})
        self.lock = threading.Lock()
        self.in_memory = self.most_in_memory = self.preparing = self.most_preparing = 0
        self.threads: set[str] = set()
        self.batches_seen: list[int] = []

    def _load(self):
        return None

    def prepare(self, picture, prompt):
        number = int(prompt.split()[-1])
        with self.lock:
            self.preparing += 1
            self.most_preparing = max(self.most_preparing, self.preparing)
        time.sleep(0.004 if number % 3 else 0.001)
        with self.lock:
            self.in_memory += 1
            self.preparing -= 1
            self.most_in_memory = max(self.most_in_memory, self.in_memory)
        if picture == b"broken":
            raise ValueError("no picture in it")
        return len(picture), number

    def _forward(self, prepared):
        import torch

        self.threads.add(threading.current_thread().name)
        self.batches_seen.append(len(prepared))
        with self.lock:
            self.in_memory -= len(prepared)
        return torch.tensor(prepared, dtype=torch.float32)


def test_features_are_in_the_order_of_the_pictures_with_many_threads(monkeypatch):
    monkeypatch.setattr("teacher_cache.building.encoding.THREADS", 8)
    encoder, done = Sizes(), []
    pictures = [b"x" * (row + 1) for row in range(50)]
    features = np.concatenate(list(encode_pictures(encoder, iter(pictures), PROMPTS, done.append)))
    assert features.tolist() == [[row + 1, row] for row in range(50)]
    assert (sum(done), encoder.batches_seen) == (50, [4] * 12 + [2])
    assert len(encoder.threads) == 1
    assert encoder.most_preparing > 1


def test_at_most_three_batches_are_in_memory_however_slow_the_model_is():
    encoder, read = Sizes(), []
    pictures = (read.append(row) or b"x" for row in range(50))
    for batch, _ in enumerate(encode_pictures(encoder, pictures, PROMPTS)):
        time.sleep(0.02)
        assert len(read) <= 4 * (batch + 3)
    assert encoder.most_in_memory <= 12


def test_the_error_names_the_picture_that_cannot_be_prepared():
    pictures = [b"broken" if row == 17 else b"x" for row in range(50)]
    with pytest.raises(CacheError, match=f"'prompt 17' .sha256 {sha256(b'broken')}.*sizes: no picture in it; run"):
        list(encode_pictures(Sizes(), iter(pictures), PROMPTS))


def test_a_consumer_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    features = encode_pictures(Sizes(), iter([b"x"] * 50), PROMPTS)
    next(features)
    features.close()
    assert threading.active_count() == before


def test_an_encoder_with_one_step_is_called_batch_by_batch():
    encoder = fakes.encoder()
    pictures = [fakes.png(row) for row in range(10)]
    features = np.concatenate(list(encode_pictures(encoder, iter(pictures), PROMPTS[:10])))
    assert np.array_equal(features, encoder.encode(pictures, PROMPTS[:10]))


def test_a_batch_that_does_not_fit_into_the_memory_is_halved(capsys):
    import torch

    class Small(Sizes):
        def _forward(self, prepared):
            if len(prepared) > 3:
                self.batches_seen.append(-len(prepared))
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super()._forward(prepared)

    encoder = Small(batch=8)
    features = np.concatenate(list(encode_pictures(encoder, iter([b"x"] * 10), PROMPTS[:10])))
    assert features[:, 1].tolist() == list(range(10))
    assert encoder.batches_seen == [-8, -4, 2, 2, 2, 2, 2]
    assert encoder.batch_size == 2
    assert "out of memory with a batch of 4 pictures; going on with batches of 2" in capsys.readouterr().err


def test_a_device_too_small_for_one_picture_is_an_error():
    import torch

    class Full(Sizes):
        def _forward(self, prepared):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(Exception, match="cpu has no memory for one picture; try another device="):
        Full(batch=2).encode([b"x"] * 2, PROMPTS[:2])


class Slow(Sizes):
    """Takes a minute for every batch but the first."""

    def __init__(self):
        super().__init__()
        self.started, self.release = threading.Event(), threading.Event()

    def _forward(self, prepared):
        if self.batches_seen:
            self.started.set()
            self.release.wait(60)
        return super()._forward(prepared)


@pytest.mark.parametrize("two_steps", [True, False], ids=["prepared ahead", "in one step"])
def test_encoding_stops_within_a_second_while_the_model_computes(two_steps):
    encoder = Slow()
    given = encoder
    if not two_steps:
        given = SimpleNamespace(spec=encoder.spec, dimension=2, batch_size=4, encode=encoder.encode)
    found, ended = [], []

    def run():
        found.extend(encode_pictures(given, iter([b"picture"] * 50), PROMPTS, stop=ended.__len__))
        ended.append("returned")

    thread = threading.Thread(target=run)
    thread.start()
    assert encoder.started.wait(30)
    ended.append("stopped")
    started = time.monotonic()
    thread.join(30)
    took = time.monotonic() - started
    encoder.release.set()
    assert ended == ["stopped", "returned"]
    assert took < 1
    assert np.concatenate(found)[:, 1].tolist() == [0, 1, 2, 3]  # what was finished is not lost
