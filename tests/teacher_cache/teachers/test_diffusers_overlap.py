"""The device waits neither for pixels nor for PNGs nor for whoever stores the pictures; with a pipeline of our own."""

import importlib.util
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from teacher_cache.teachers import Picture, Request
from teacher_cache.teachers.diffusers_pictures import output_type_of, pixels_of
from teacher_cache.teachers.diffusers_pipeline import DiffusersPipeline

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


class FakePipeline:
    """Draws noise as a tensor. `began` is the number of batches that it has begun; it draws while `may_draw` is set."""

    def __init__(self):
        self.image_processor = VaeImageProcessor()
        self.began, self.may_draw, self.threads = 0, threading.Event(), set()
        self.may_draw.set()

    def __call__(self, *, prompt, generator, output_type):
        self.began += 1
        self.threads.add(threading.current_thread())
        assert self.may_draw.wait(10)
        images = torch.stack([torch.rand(3, 16, 16, generator=one) for one in generator])
        return SimpleNamespace(images=images if output_type == "pt" else self.image_processor.postprocess(images))


@pytest.fixture
def teacher(monkeypatch):
    opened = object.__new__(DiffusersPipeline)
    opened._text, opened.concurrency = "fake", 2
    opened.__dict__.update(_pipeline=(FakePipeline(), {}), _device="cpu")
    return opened


def requests(count):
    return [Request(f"k{i}", f"prompt {i}", 0, i) for i in range(count)]


def until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition()


def test_while_one_batch_is_stored_the_device_has_two_more(teacher):
    pipeline = teacher._pipeline[0]
    pulled = []
    answers = teacher.draw(pulled.append(request) or request for request in requests(20))
    first = next(answers)  # and now it is stored, for a long time
    assert isinstance(first, Picture)
    until(lambda: pipeline.began == 3)
    assert len(pulled) == 6  # and no more: what waits for the device is bounded
    assert len(list(answers)) == 19


def test_the_threads_that_make_pixels_and_pngs_are_not_the_device_s(teacher, monkeypatch):
    pipeline, seen = teacher._pipeline[0], set()
    for name in ("pt_to_numpy", "numpy_to_pil"):
        method = getattr(VaeImageProcessor, name)
        noted = staticmethod(lambda images, method=method: seen.add(threading.current_thread()) or method(images))
        monkeypatch.setattr(VaeImageProcessor, name, noted)
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image, "save", lambda *words, **k: seen.add(threading.current_thread()) or save(*words, **k)
    )
    assert len(list(teacher.draw(iter(requests(8))))) == 8
    assert seen
    assert not seen & (pipeline.threads | {threading.main_thread()})


def test_the_pixels_are_those_that_the_pipeline_would_have_made():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    processor = VaeImageProcessor()
    tensors = SimpleNamespace(images=processor.postprocess(images, output_type="pt"))
    for ours, theirs in zip(pixels_of(tensors), processor.postprocess(images, output_type="pil"), strict=True):
        assert (np.asarray(ours) == np.asarray(theirs)).all()
    assert output_type_of(SimpleNamespace(image_processor=processor)) == "pt"
    assert output_type_of(SimpleNamespace(image_processor=object())) == output_type_of(object()) == "pil"


def test_a_timeline_counts_what_overlaps_once_and_names_the_longest_waits(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("device_timeline", BENCHMARKS / "parts" / "device_timeline.py")
    timeline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(timeline)
    calls = [(0.0, 1.0), (4.0, 8.0), (0.5, 2.0), (2.0, 3.0), (8.5, 10.0)]
    assert timeline.busy_share(calls) == pytest.approx(0.85)
    assert timeline.longest_waits(calls) == [(3.0, 4.0), (8.0, 8.5)]
    assert timeline.longest_waits(calls, 1) == [(3.0, 4.0)]
    assert timeline.busy_share([(5.0, 6.0)]) == 1.0
