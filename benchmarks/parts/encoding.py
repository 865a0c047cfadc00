"""Pictures encoded per second by our whole pipeline and by a bare loop, in turn.

The pipeline reads and checks sealed tars, decodes, preprocesses, runs open_clip's ViT-B-32, writes a Parquet shard and
commits it. The bare loop decodes and encodes at its best batch size. Weights are random, pictures are PNGs of 512 x 512
pixels. Run it with benchmarks/stage_one.py.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from teacher_cache import (
    Cache,
    Encoder,
    ImageRow,
    Provenance,
    Source,
    commit_pictures,
    encode,
    image_key,
    in_tar_order,
    open_encoder,
    prompt_key,
    sha256,
    source_of_encoder,
    spec_digest,
)

ARCHITECTURE = "ViT-B-32"
TEACHER_SPEC = {"kind": "bench"}
TEACHER = Source(TEACHER_SPEC, spec_digest(TEACHER_SPEC), {"licence": "CC0"})


def picture(seed: int, side: int = 512) -> bytes:
    """Return a PNG of soft shapes with a little grain, like a generated picture, about 350 KB."""
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(0, 256, (12, 12, 3), np.uint8)).resize((side, side), 3)
    pixels = np.asarray(shapes, np.int16) + generator.integers(-2, 3, (side, side, 3))
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def save_pictures(home: Path, count: int) -> list[Path]:
    """Write the pictures as files for the bare loop, and sealed in a cache for our pipeline."""
    rows, files = [], []
    for seed in range(count):
        data, prompt = picture(seed), f"picture {seed}"
        digest = prompt_key(prompt)
        facts = {"suffix": "png", "cost_usd": None, "seconds": 0.1, "attempts": 1}
        rows.append(ImageRow(image_key(TEACHER.digest, digest), digest, prompt, 0, sha256(data), **facts))
        files.append(home / f"{rows[-1].image_key}.png")
        files[-1].write_bytes(data)
    rows.sort(key=lambda row: row.image_key)
    files.sort()
    cache = Cache(str(home / "sealed"), create=True)
    cache.register(TEACHER)
    commit_pictures(cache, TEACHER, rows, (file.read_bytes() for file in files), Provenance(time.time))
    return files


def bare(model: Any, transform: Any, files: list[Path], batch: int) -> np.ndarray:
    """Encode as a hand-written loop does: decode and preprocess one batch, encode it, take the next."""
    features = []
    with torch.inference_mode():
        for start in range(0, len(files), batch):
            pixels = [transform(Image.open(file).convert("RGB")) for file in files[start : start + batch]]
            device = next(model.parameters()).device
            features.append(model.encode_image(torch.stack(pixels).to(device)).cpu().numpy())
    return np.concatenate(features)


def best_batch(model: Any, transform: Any, files: list[Path]) -> int:
    rates = {}
    for batch in (8, 16, 32, 64):
        started = time.perf_counter()
        bare(model, transform, files[:64], batch)
        rates[batch] = time.perf_counter() - started
    return min(rates, key=lambda batch: rates[batch])


def ours(home: Path, encoder: Encoder) -> float:
    """Return the seconds to encode the sealed pictures into a fresh copy of the cache."""
    folder = home / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home / "sealed", folder)
    started = time.perf_counter()
    cache = Cache(str(folder))
    cache.register(TEACHER, source_of_encoder(encoder))
    rows = in_tar_order(cache.images(TEACHER))
    done = encode(cache, TEACHER, encoder, [rows], rows.num_rows, provenance=Provenance(time.time))
    assert done.written == rows.num_rows
    return time.perf_counter() - started


def measure(count: int, repeats: int, device: str) -> dict[str, Any]:
    """Return both rates, and the median over the turns of their ratio."""
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    try:
        torch.manual_seed(0)
        model, _, transform = open_clip.create_model_and_transforms(ARCHITECTURE)
        torch.save(model.state_dict(), home / "weights.pt")
        model.eval().to(device)
        files = save_pictures(home, count)
        size = sum(file.stat().st_size for file in files) / len(files)
        batch = best_batch(model, transform, files)
        encoder = open_encoder(f"open_clip:{ARCHITECTURE}/{home}/weights.pt?device={device}")
        some = [file.read_bytes() for file in files[:8]]
        tolerance = 1e-4 if device == "cpu" else 2e-2  # fp16 autocast
        assert np.allclose(encoder.encode(some, [""] * 8), bare(model, transform, files[:8], 8), atol=tolerance)
        taken: dict[str, list[float]] = {"armada": [], "bare": []}
        for _ in range(repeats):
            started = time.perf_counter()
            bare(model, transform, files, batch)
            taken["bare"].append(time.perf_counter() - started)
            taken["armada"].append(ours(home, encoder))
    finally:
        shutil.rmtree(home)
    return {
        "pictures": count,
        "picture_kb": round(size / 1000),
        "device": device,
        "bare_batch": batch,
        "pictures_per_second": {name: round(len(files) / median(seconds), 2) for name, seconds in taken.items()},
        "of_bare": round(median(other / own for own, other in zip(taken["armada"], taken["bare"], strict=True)), 3),
    }
