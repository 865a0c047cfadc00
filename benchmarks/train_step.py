"""The cost of distillation per step: our distilled loop by both objectives, our undistilled loop and transformers'
Trainer. The four take turns: one step each per round, in a new order every round.

    python benchmarks/train_step.py [--rounds 12] [--students minilm bert6] [--batches 8 32] [--clock wall|cpu] [--json]

A ratio is the median over the rounds of the ratio of two times in a round, with its bootstrapped 95 % interval. The
ratio of an epoch includes the one pass of the frozen aligner per epoch, or the making of the bank; that of a first run
also includes the training of the aligner, or of all cross-fitted ones and the whitening, and `paper_run` its training
as by --recipe paper (reported, without a bound). Exits with code 3 if a ratio exceeds its bound: 1.03 for an epoch or a
rerun, 1.10 for a first run (on a GPU 1.02 for an epoch); of crossfit 1.05 and 1.15.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from parts.training_loops import CLASSES, EPOCH_STEPS, LENGTH, ours, trainer_of
from parts.turns import Turns, run_in_turn
from scipy import stats

from distill import (
    PAPER_ALIGNER,
    AlignerSettings,
    Coverage,
    CrossfitTargets,
    EpochTargets,
    Split,
    TeacherTargets,
    TrainSettings,
    View,
    crossfit_targets,
    train_aligner,
)

FEATURES = 1024
WARM_UP = 2  # rounds
# A rerun consists of epochs only: it reads the trained aligner.
BOUNDS = {"epoch": 1.03, "first_run": 1.10, "crossfit_epoch": 1.05, "crossfit_first_run": 1.15}


def measure(
    name: str, batch: int, rounds: int, precision: str, device: torch.device, clock: Callable[[], float]
) -> dict[str, Any]:
    """Return the times of one student and batch size, and their ratios."""
    count = batch * EPOCH_STEPS
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, FEATURES, generator=generator).half().to(device)
    labels = torch.randint(0, CLASSES, (count,), generator=generator).to(device)
    settings = AlignerSettings()
    aligner_s, targets_s = [], []
    for _ in range(3):
        started = clock()
        states = train_aligner(features, labels, CLASSES, 1, settings, 0, "benchmark")
        aligner_s.append(clock() - started)
        started = clock()
        EpochTargets(TeacherTargets(features, states, settings.width), 0, device)
        targets_s.append(clock() - started)
    few = min(count, 8 * PAPER_ALIGNER.batch_size)
    started = clock()
    train_aligner(features[:few], labels[:few], CLASSES, 1, PAPER_ALIGNER, 0, "benchmark")
    paper = (clock() - started) / few * batch
    teacher_targets = TeacherTargets(features, states, settings.width)
    crossfit, crossfit_s = cross_fitted(features, labels.tolist(), clock, device)
    turns = Turns(4, rounds + WARM_UP, clock)
    with tempfile.TemporaryDirectory() as folder:
        peer = trainer_of(name, batch, precision, turns, 2, folder)  # first: it resets accelerate's state
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
        sides: list[Callable[[], Any]] = [
            lambda: ours(name, batch, teacher_targets, accelerator, turns, 0),
            lambda: ours(name, batch, None, accelerator, turns, 1),
            peer.train,
            lambda: ours(name, batch, crossfit, accelerator, turns, 3),
        ]
        run_in_turn(turns, sides)
    distilled, undistilled, trainer, by_crossfit = turns.seconds[WARM_UP:].T
    targets, aligner = np.median(targets_s) / EPOCH_STEPS, np.median(aligner_s) / EPOCH_STEPS
    ratios = {}
    for peer, seconds in (("trainer", trainer), ("undistilled", undistilled)):
        ratios[f"epoch/{peer}"] = ratio((distilled + targets) / seconds)
        ratios[f"first_run/{peer}"] = ratio((distilled + targets + aligner) / seconds)
        ratios[f"crossfit_epoch/{peer}"] = ratio((by_crossfit + crossfit_s["bank"]) / seconds)
        ratios[f"crossfit_first_run/{peer}"] = ratio((by_crossfit + sum(crossfit_s.values())) / seconds)
        ratios[f"paper_run/{peer}"] = ratio((distilled + targets + paper) / seconds)
    return {
        "student": name,
        "batch": batch,
        "step_ms": {
            "distilled": 1000 * float(np.median(distilled)),
            "crossfit": 1000 * float(np.median(by_crossfit)),
            "undistilled": 1000 * float(np.median(undistilled)),
            "trainer": 1000 * float(np.median(trainer)),
            "targets": 1000 * float(targets),
            "aligner": 1000 * float(aligner),
            **{f"crossfit_{what}": 1000 * seconds for what, seconds in crossfit_s.items()},
        },
        "tokens_per_s": {"distilled": batch * LENGTH / float(np.median(distilled)),
                         "trainer": batch * LENGTH / float(np.median(trainer))},
        "ratios": ratios,
    }  # fmt: skip


def cross_fitted(
    features: torch.Tensor, labels: list[int], clock: Callable[[], float], device: torch.device
) -> tuple[CrossfitTargets, dict[str, float]]:
    """Return the targets of crossfit, and the seconds per step of an epoch that aligners with whitening and the bank
    take: medians of three."""
    count = len(labels)
    ids = [str(number) for number in range(count)]
    rows = Split(ids, [(one,) for one in ids], ids, labels)
    aligners, banks = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            view = View(rows, features, "benchmark", Coverage(count, count, 0, 0, (), {}), np.arange(count))
            started = clock()
            targets = crossfit_targets(
                Path(folder), view, labels, CLASSES, 1, TrainSettings(objective="crossfit"), AlignerSettings(), device
            )
            aligners.append(clock() - started)
        started = clock()
        targets.of_epoch(0, device).bank()
        banks.append(clock() - started)
    medians = {"aligners": float(np.median(aligners)), "bank": float(np.median(banks))}
    return targets, {what: seconds / EPOCH_STEPS for what, seconds in medians.items()}


def ratio(values: np.ndarray) -> dict[str, float]:
    """Return the median and its 95 % interval."""
    interval = stats.bootstrap((values,), np.median, rng=np.random.default_rng(0)).confidence_interval
    return {"median": float(np.median(values)), "low": float(interval.low), "high": float(interval.high)}


def share_one_heap() -> None:
    """Let all threads allocate from one heap, like the single thread of a training run.

    With one heap per side, its place in memory changed the time of a step by up to 5 %.
    """
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX


def main() -> int:
    share_one_heap()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--students", nargs="+", default=["minilm", "bert6"], choices=["minilm", "bert6"])
    parser.add_argument("--batches", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--precision", default="no", choices=["no", "bf16"])
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="cpu: if others use the machine")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if words.clock == "wall" else time.process_time
    bounds = {**BOUNDS, "epoch": 1.02} if device.type == "cuda" else BOUNDS
    results, missed = [], []
    for name in words.students:
        for batch in words.batches:
            found = measure(name, batch, words.rounds, words.precision, device, clock)
            results.append(found)
            for what, value in found["ratios"].items():
                bound = bounds.get(what.partition("/")[0])
                if bound and value["median"] > bound:
                    missed.append(f"{name}, batch {batch}: {what} {value['median']:.3f} over {bound}")
            print(json.dumps(found), file=sys.stderr)
    if words.json:
        facts = {
            "rounds": words.rounds,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "clock": words.clock,
        }
        print(json.dumps({**facts, "results": results, "missed": missed}))
    else:
        for found in results:
            for what, value in found["ratios"].items():
                interval = f"[{value['low']:.3f}, {value['high']:.3f}]"
                print(f"{found['student']:8} batch {found['batch']:3}  {what:24} {value['median']:.3f} {interval}")
        print(*missed, sep="\n")
    return 3 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
