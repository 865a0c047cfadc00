"""From a pipeline's output to PNGs, on threads of the processor, while the device draws.

A pipeline that returns PIL images first waits for the device and then turns numbers into pixels, and the device waits
for both. So the output is asked for as a tensor where the pipeline can do so, and becomes the same pixels here.
"""

from __future__ import annotations

import io
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Protocol

from teacher_cache.registry.packages import import_package

if TYPE_CHECKING:
    from PIL.Image import Image


class PipelineOutput(Protocol):
    """The result of a pipeline's call: PIL images, or a tensor (B, 3, H, W) of numbers from 0 to 1. Some pipelines add
    `nsfw_content_detected`: None, or a bool per picture."""

    images: Any


Pictures = list[tuple[Future[bytes], bool]]  # PNGs, and whether each was flagged by the pipeline's safety checker


def output_type_of(pipeline: Any) -> str:
    """Return the `output_type` with which the device need not wait for pixels: "pt" if the pipeline makes its pictures
    as `pixels_of` does, else "pil"."""
    return "pt" if type(getattr(pipeline, "image_processor", None)).__name__ == "VaeImageProcessor" else "pil"


def pixels_of(output: PipelineOutput) -> list[Image]:
    """Return the pictures of a pipeline's output."""
    if isinstance(output.images, list):
        return output.images
    diffusers = import_package("diffusers.image_processor", distribution="diffusers", purpose="the teacher diffusers")
    processor = diffusers.VaeImageProcessor
    pictures: list[Image] = processor.numpy_to_pil(processor.pt_to_numpy(output.images))
    return pictures


def compress(outputs: list[PipelineOutput], png_writers: Executor) -> Pictures:
    """Return the pictures of a batch's outputs; `png_writers` compress them."""
    found: Pictures = []
    for output in outputs:
        pictures = pixels_of(output)
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(pictures)
        found += [
            (png_writers.submit(_png, picture), bool(flag)) for picture, flag in zip(pictures, flags, strict=True)
        ]
    return found


def _png(picture: Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)  # at most half a megabyte more per picture, in a quarter of the time
    return stream.getvalue()
