"""How long a GPU waits while the diffusers teacher draws, PNGs are compressed, and a build stores them.

Every call of the pipeline is an interval on the device's own clock (CUDA events on its stream): what lies between two
of them is time in which the device had nothing to do. The bare loop calls the same pipeline with the same batches and
keeps nothing. The pipeline is a small Stable Diffusion with random weights, made on the spot.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from parts.http_calls import SizeEncoder
from teacher_cache import BuildOptions, Cache, build, open_teacher

Interval = tuple[float, float]  # begin and end, in seconds
SIDE, BATCH, STEPS = 512, 8, 4


def busy_share(calls: Sequence[Interval]) -> float:
    """Return the share of the time from the first begin to the last end in which a call was running. Calls may
    overlap, and come in any order."""
    busy, end = 0.0, float("-inf")
    ordered = sorted(calls)
    for begin, stop in ordered:
        busy += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return busy / (end - ordered[0][0])


def longest_waits(calls: Sequence[Interval], count: int = 5) -> list[Interval]:
    """Return the longest times between two calls in which none was running, the longest one first."""
    waits, end = [], float("inf")
    for begin, stop in sorted(calls):
        if begin > end:
            waits.append((end, begin))
        end = stop if end == float("inf") else max(end, stop)
    return sorted(waits, key=lambda wait: wait[0] - wait[1])[:count]


class Timeline:
    """Puts a CUDA event before and after each call of a function, on the current stream."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import torch

        self._function, self._cuda = function, torch.cuda
        self._events: list[tuple[Any, Any]] = []

    def __call__(self, *arguments: Any, **words: Any) -> Any:
        begin, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        result = self._function(*arguments, **words)
        end.record()
        self._events.append((begin, end))
        return result

    def calls(self) -> list[Interval]:
        """Return the intervals of the calls, from the begin of the first one."""
        self._cuda.synchronize()
        first = self._events[0][0]
        return [(first.elapsed_time(begin) / 1000, first.elapsed_time(end) / 1000) for begin, end in self._events]


def _save_model(folder: Path) -> None:
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.teacher_cache.tiny_models import save_stable_diffusion

    save_stable_diffusion(folder)


def measure(pictures: int, repeats: int, device: str) -> dict[str, Any]:
    """Return the share of the time in which the device was busy, in a build and in a bare loop, in turn."""
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    try:
        _save_model(home / "model")
        spec = f"diffusers:{home / 'model'}?steps={STEPS}&height={SIDE}&width={SIDE}&batch={BATCH}&device={device}"
        ours, bare, waits = [], [], []
        for number in range(repeats + 1):
            prompts = [f"prompt {number} {i}" for i in range(pictures)]
            teacher: Any = open_teacher(spec)
            pipeline, settings = teacher._pipeline
            timeline = Timeline(pipeline)
            teacher.__dict__["_pipeline"] = (_Timed(pipeline, timeline), settings)
            cache = Cache(str(home / f"cache-{number}"), create=True)
            assert build(cache, prompts, teacher, SizeEncoder(), BuildOptions()).drawn == pictures
            ours.append(busy_share(timeline.calls()))
            waits.append(longest_waits(timeline.calls()))
            timeline = Timeline(pipeline)
            for start in range(0, pictures, BATCH):
                timeline(prompt=prompts[start : start + BATCH], output_type="pt", **settings)
            bare.append(busy_share(timeline.calls()))
        ours, bare = ours[1:], bare[1:]  # the first round warms up
        ratios = [one / other for one, other in zip(ours, bare, strict=True)]
        return {
            "busy": round(median(ours), 4),
            "bare_busy": round(median(bare), 4),
            "of_bare": round(median(ratios), 4),
            "longest_waits_ms": [round(1000 * (end - begin), 2) for begin, end in waits[-1]],
        }
    finally:
        shutil.rmtree(home)


class _Timed:
    """A pipeline whose calls are on a timeline."""

    def __init__(self, pipeline: Any, timeline: Timeline) -> None:
        self._pipeline, self._timeline = pipeline, timeline

    def __call__(self, **arguments: Any) -> Any:
        return self._timeline(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)
