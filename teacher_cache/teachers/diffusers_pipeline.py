"""Any text-to-image pipeline of diffusers, on this machine's device.

Each picture has a generator of its own, seeded by its key, on the CPU whatever the device: neither batch nor order nor
device decides its noise. What remains is the arithmetic of another batch size: nothing that we saw on a CPU in float32,
some levels of 255 in half precision. While the device draws a batch, the one before it is written as PNG and kept.
"""

from __future__ import annotations

import inspect
import io
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from teacher_cache.errors import ArmadaError, SpecError
from teacher_cache.keys import sha256
from teacher_cache.registry.packages import import_package, quiet_transformers
from teacher_cache.registry.pretrained import brief, weights_digest
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request

_DRAWN = {"steps": 0, "guidance": -1.0, "negative": "", "height": 0, "width": 0}  # the pipeline's own where not given
_NAMES = {"steps": "num_inference_steps", "guidance": "guidance_scale", "negative": "negative_prompt"}
_MODEL = {"dtype": ("auto", "fp32", "fp16", "bf16"), "revision": "", "variant": "", "scheduler": ""}
_RUN = {"batch": 0, "device": "", "offload": ("none", "model", "sequential"), "slicing": False, "compile": False}
_BATCHES = {"cpu": 1, "cuda": 8}
_DECIDING = (".json", ".txt", ".model", ".safetensors", ".bin")  # files of a pipeline's folder that decide a picture

Drawn = tuple[list[Any], list[bool], float]  # PIL pictures, which of them are flagged, seconds a picture


class DiffusersPipeline:
    """`diffusers:MODEL[?steps=20&guidance=7.5&negative=...&height=512&width=512&scheduler=EulerDiscreteScheduler]`:
    a folder that `save_pretrained` wrote (known by its content) or a hub id (known by its resolved revision).

    One build uses one device; for several GPUs start a build on each (`device=cuda:1`): they share the work.
    """

    price_usd = None

    def __init__(self, spec: Spec) -> None:
        options = spec.options({**_DRAWN, **_MODEL, **_RUN, "licence": ""})
        self._text, self._options = spec.text, options
        self._diffusers = import_package("diffusers", distribution="diffusers", purpose="the teacher diffusers")
        if options["scheduler"] and not hasattr(self._diffusers, options["scheduler"]):
            raise SpecError(
                f"{spec.text}: option scheduler expects a class of diffusers, found {options['scheduler']!r}"
            )
        self._source, identity, self.revision = _find(spec, options["revision"])
        given = {name: options[name] for name in _DRAWN if name in spec.params}
        stated = {name: options[name] for name in ("dtype", "variant", "scheduler") if name in spec.params}
        self.licence = options["licence"] or "that of the model; see its card"
        self.spec: Mapping[str, Any] = {
            "kind": "diffusers",
            **identity,
            **given,
            **stated,
            "seed": "from the image key",
        }
        self.concurrency: int = options["batch"] or _BATCHES.get(self._device.partition(":")[0], 1)

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """One answer a request; one batch is drawn while the next one waits. Raises ArmadaError where not one picture
        fits the device's memory."""
        pulled = iter(requests)
        drawn: tuple[list[Request], Future[Drawn]] | None = None
        with ThreadPoolExecutor(1) as device, ThreadPoolExecutor() as writers:
            while True:
                batch = list(islice(pulled, self.concurrency))
                ahead = (batch, device.submit(self._draw, batch)) if batch else None
                if drawn:
                    pictures, flags, seconds = drawn[1].result()
                    for request, data, flagged in zip(drawn[0], writers.map(_png, pictures), flags, strict=True):
                        if flagged:
                            why = "flagged by the pipeline's safety checker"
                            yield Failure(request.image_key, "refused", why, seconds=seconds)
                        else:
                            yield Picture(request.image_key, data, "png", seconds=seconds)
                if not ahead:
                    break
                drawn = ahead

    def _draw(self, batch: Sequence[Request]) -> Drawn:
        """Draw a batch; one that doesn't fit the memory is halved, and so are those after it."""
        started = time.monotonic()
        pictures: list[Any] = []
        flags: list[bool] = []
        while len(pictures) < len(batch):
            part = batch[len(pictures) : len(pictures) + self.concurrency]
            output = self._attempt(part)
            if output is None:
                if len(part) == 1:
                    raise ArmadaError(f"{self._text}: {self._device} has no memory for one picture; try ?offload=model")
                self.concurrency = len(part) // 2
                print(f"{self._text}: out of memory, going on with batches of {self.concurrency}", file=sys.stderr)
                continue
            pictures += output.images
            flags += getattr(output, "nsfw_content_detected", None) or [False] * len(part)
        return pictures, flags, (time.monotonic() - started) / len(batch)

    def _attempt(self, part: Sequence[Request]) -> Any:
        """The pipeline's output for some requests, None where the device's memory is too small for them."""
        import torch

        pipeline, settings = self._pipeline
        each = {"prompt": [request.prompt for request in part]}
        if "negative_prompt" in settings:
            each["negative_prompt"] = [settings["negative_prompt"]] * len(part)
        generators = [torch.Generator().manual_seed(request.seed) for request in part]  # of the CPU
        try:
            return pipeline(**{**settings, **each}, generator=generators, output_type="pil")
        except torch.OutOfMemoryError:
            pass  # leave the block first: the traceback holds the tensors
        torch.cuda.empty_cache()
        return None

    @cached_property
    def _device(self) -> str:
        import torch

        return self._options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _pipeline(self) -> tuple[Any, dict[str, Any]]:
        """The loaded pipeline, and the keyword arguments of each call. Raises SpecError."""
        import torch
        from packaging.version import Version

        options, kind = self._options, self._device.partition(":")[0]
        name = ("fp16" if kind == "cuda" else "fp32") if options["dtype"] == "auto" else options["dtype"]
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
        word = "dtype" if Version(self._diffusers.__version__) >= Version("0.42") else "torch_dtype"
        try:
            with quiet_transformers(), self._quiet():
                pipeline = self._diffusers.AutoPipelineForText2Image.from_pretrained(
                    self._source,
                    revision=self.revision or None,
                    variant=options["variant"] or None,
                    **{word: dtype},
                )
        except (OSError, ValueError, TypeError) as error:
            raise SpecError(f"{self._text}: no text-to-image pipeline in {self._source}: {brief(error)}") from None
        pipeline.set_progress_bar_config(disable=True)
        if options["scheduler"]:
            scheduler = getattr(self._diffusers, options["scheduler"])
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
        if options["slicing"]:
            pipeline.enable_attention_slicing()
        if options["offload"] == "model":
            pipeline.enable_model_cpu_offload(device=self._device)
        elif options["offload"] == "sequential":
            pipeline.enable_sequential_cpu_offload(device=self._device)
        else:
            pipeline.to(self._device)
        if options["compile"]:
            part = "transformer" if getattr(pipeline, "transformer", None) is not None else "unet"
            setattr(pipeline, part, torch.compile(getattr(pipeline, part)))
        return pipeline, self._settings(pipeline)

    def _settings(self, pipeline: Any) -> dict[str, Any]:
        """The options given, by the names of the pipeline's own arguments."""
        takes = inspect.signature(pipeline.__call__).parameters
        settings = {}
        for name in _DRAWN:
            if name in self.spec:
                argument = _NAMES.get(name, name)
                if argument not in takes:
                    raise SpecError(f"{self._text}: {type(pipeline).__name__} takes no option {name}")
                settings[argument] = self.spec[name]
        return settings

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        logging = self._diffusers.utils.logging
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.enable_progress_bar()


def _find(spec: Spec, revision: str) -> tuple[str, dict[str, str], str]:
    """Where the pipeline is loaded from, what it is known by, and the hub's commit where it comes from the hub."""
    if not spec.model:
        raise SpecError(f"{spec.text}: expected diffusers:MODEL, a folder or a hub id")
    folder = Path(spec.model).expanduser()
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise SpecError(
                f"{spec.text}: no pipeline in {folder}; expected model_index.json, as save_pretrained writes"
            )
        files = sorted(path for path in folder.rglob("*") if path.suffix in _DECIDING and path.is_file())
        lines = [f"{path.relative_to(folder).as_posix()} {weights_digest(path)}\n" for path in files]
        return str(folder), {"checkpoint_sha256": sha256("".join(lines).encode("utf-8"))}, ""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        index = huggingface_hub.hf_hub_download(spec.model, "model_index.json", revision=revision or None)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise SpecError(
            f"{spec.text}: no pipeline there; tried the folder {folder.absolute()} and the hub's {spec.model!r}: "
            f'{brief(error)}; expected a folder that "save_pretrained" wrote, or a hub id'
        ) from None
    commit = Path(index).parent.name  # .../snapshots/COMMIT/model_index.json
    return spec.model, {"model": spec.model, "revision": commit}, commit


def _png(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)  # half a megabyte more a picture at most, a quarter of the time
    return stream.getvalue()
