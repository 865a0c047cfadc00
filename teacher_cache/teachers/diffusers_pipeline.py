"""A teacher for every text-to-image pipeline of diffusers, on a device of this machine.

Each picture has its own random generator, seeded by its key and always on the CPU, so that its noise depends neither on
the batch nor on the order nor on the device. Another batch size may still change the arithmetic: we saw no difference
on a CPU in float32, and a few of 255 levels in half precision.

The device waits for nothing else: two batches are always queued for it, while the one before them becomes pixels and
PNGs on other threads and is stored.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from teacher_cache.errors import SpecError
from teacher_cache.keys import sha256
from teacher_cache.registry.packages import import_package, quiet_transformers
from teacher_cache.registry.pretrained import brief, warn_unpinned, weights_digest
from teacher_cache.registry.specs import Spec
from teacher_cache.registry.torch_models import choose_device, quiet_diffusers, run_in_batches
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.teachers.diffusers_pictures import Pictures, PipelineOutput, compress, output_type_of
from teacher_cache.teachers.prompt_window import PromptWindow, window_of_tokenizers

# The options of a spec. If a call option is not given, the pipeline uses its own default.
_CALL_OPTIONS = {"steps": 0, "guidance": -1.0, "negative": "", "height": 0, "width": 0}
_MODEL_OPTIONS = {"dtype": ("auto", "fp32", "fp16", "bf16"), "revision": "", "variant": "", "scheduler": ""}
_DEVICE_OPTIONS = {
    "batch": 0,
    "device": "",
    "offload": ("none", "model", "sequential"),
    "slicing": False,
    "compile": False,
}
_ARGUMENTS = {"steps": "num_inference_steps", "guidance": "guidance_scale", "negative": "negative_prompt"}
_BATCH_SIZES = {"cpu": 1, "cuda": 8}
_KEY_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".bin")  # files of a pipeline's folder that change pictures

_QUEUED = 2  # batches that wait for the device, or are drawn, while the one before them is stored

DrawnBatch = tuple[list[PipelineOutput], float]  # and when the device began, on the monotonic clock


class Pipeline(Protocol):
    """The part of a diffusers text-to-image pipeline that drawing needs."""

    def __call__(self, **arguments: Any) -> PipelineOutput:
        """Draw one picture per prompt."""
        ...


class DiffusersPipeline:
    """`diffusers:MODEL[?steps=20&guidance=7.5&negative=...&height=512&width=512&scheduler=EulerDiscreteScheduler]`.

    MODEL is a folder that `save_pretrained` wrote, identified by its content, or a hub id, identified by its resolved
    revision. One build uses one device; to use several GPUs, start a build on each of them (`device=cuda:1`): they
    share the work.
    """

    price_usd = None

    def __init__(self, spec: Spec) -> None:
        options = spec.options({**_CALL_OPTIONS, **_MODEL_OPTIONS, **_DEVICE_OPTIONS, "licence": ""})
        self._text, self._options = spec.text, options
        self._diffusers = import_package("diffusers", distribution="diffusers", purpose="the teacher diffusers")
        if options["scheduler"] and not hasattr(self._diffusers, options["scheduler"]):
            raise SpecError(
                f"{spec.text}: option scheduler expects a class of diffusers, found {options['scheduler']!r}"
            )
        self._source, identity, self.revision = _find(spec, options["revision"])
        call = {name: options[name] for name in _CALL_OPTIONS if name in spec.params}
        model = {name: options[name] for name in ("dtype", "variant", "scheduler") if name in spec.params}
        self.licence = options["licence"] or "that of the model; see its card"
        self.spec: Mapping[str, Any] = {
            "kind": "diffusers",
            **identity,
            **call,
            **model,
            "seed": "from the image key",
        }
        self.concurrency: int = options["batch"] or _BATCH_SIZES.get(self._device.partition(":")[0], 1)

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request. While the answers of one batch are yielded, the device draws the next ones.

        Raises SpecError if the folder or the hub's model is no text-to-image pipeline, ArmadaError if not even one
        picture fits into the device's memory.
        """
        pending = iter(requests)
        queued: deque[tuple[list[Request], Future[tuple[Pictures, float]]]] = deque()
        with (
            ThreadPoolExecutor() as png_writers,
            ThreadPoolExecutor(1) as finisher,
            ThreadPoolExecutor(1) as device,
        ):
            while True:
                while len(queued) <= _QUEUED and (batch := list(islice(pending, self.concurrency))):
                    drawn = device.submit(self._draw, batch)
                    queued.append((batch, finisher.submit(_finish, drawn, png_writers)))
                if not queued:
                    return
                batch, finished = queued.popleft()
                pictures, seconds = finished.result()
                for request, (png, is_flagged) in zip(batch, pictures, strict=True):
                    if is_flagged:
                        message = "flagged by the pipeline's safety checker"
                        yield Failure(request.image_key, "refused", message, seconds=seconds)
                    else:
                        yield Picture(request.image_key, png.result(), "png", seconds=seconds)

    def _draw(self, requests: Sequence[Request]) -> DrawnBatch:
        """Draw one picture per request, in smaller batches from now on if these do not fit into the memory."""
        started = time.monotonic()
        _ = self._pipeline  # load the weights: a smaller batch would not help if they do not fit
        outputs, self.concurrency = run_in_batches(
            self._run, requests, self.concurrency, spec=self._text, device=self._device, remedy="?offload=model"
        )
        return outputs, started

    def _run(self, requests: Sequence[Request]) -> PipelineOutput:
        import torch

        pipeline, settings = self._pipeline
        lists = {"prompt": [request.prompt for request in requests]}
        if "negative_prompt" in settings:
            lists["negative_prompt"] = [settings["negative_prompt"]] * len(requests)
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]  # on the CPU
        return pipeline(**{**settings, **lists}, generator=generators, output_type=output_type_of(pipeline))

    @cached_property
    def window(self) -> PromptWindow | None:
        """What the pipeline reads of a prompt: 77 tokens with CLIP, or what the longest of its tokenizers allows."""
        return window_of_tokenizers(self._source, self.revision)

    @cached_property
    def _device(self) -> str:
        return choose_device(self._options["device"], f"{self._text}: ")

    @cached_property
    def _pipeline(self) -> tuple[Pipeline, dict[str, Any]]:
        """The loaded pipeline, and the keyword arguments that every call has. Raises SpecError."""
        import torch
        from packaging.version import Version

        options, kind = self._options, self._device.partition(":")[0]
        name = ("fp16" if kind == "cuda" else "fp32") if options["dtype"] == "auto" else options["dtype"]
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
        argument = "dtype" if Version(self._diffusers.__version__) >= Version("0.42") else "torch_dtype"
        try:
            with quiet_transformers(), quiet_diffusers(self._diffusers):
                pipeline = self._diffusers.AutoPipelineForText2Image.from_pretrained(
                    self._source,
                    revision=self.revision or None,
                    variant=options["variant"] or None,
                    **{argument: dtype},
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

    def _settings(self, pipeline: Pipeline) -> dict[str, Any]:
        """Return the options given, named as the pipeline names its arguments. Raises SpecError for an option that the
        pipeline does not take."""
        parameters = inspect.signature(pipeline.__call__).parameters
        settings = {}
        for name in _CALL_OPTIONS:
            if name in self.spec:
                argument = _ARGUMENTS.get(name, name)
                if argument not in parameters:
                    raise SpecError(f"{self._text}: {type(pipeline).__name__} takes no option {name}")
                settings[argument] = self.spec[name]
        return settings


def _find(spec: Spec, revision: str) -> tuple[str, dict[str, str], str]:
    """Return where the pipeline is loaded from, the part of the spec that identifies it, and the hub's commit, which is
    empty for a local folder. Raises SpecError if no pipeline is found."""
    if not spec.model:
        raise SpecError(f"{spec.text}: expected diffusers:MODEL, a folder or a hub id")
    folder = Path(spec.model).expanduser()
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise SpecError(
                f"{spec.text}: no pipeline in {folder}; expected model_index.json, as save_pretrained writes it"
            )
        files = sorted(path for path in folder.rglob("*") if path.suffix in _KEY_SUFFIXES and path.is_file())
        lines = [f"{path.relative_to(folder).as_posix()} {weights_digest(path)}\n" for path in files]
        return str(folder), {"checkpoint_sha256": sha256("".join(lines).encode("utf-8"))}, ""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        index = huggingface_hub.hf_hub_download(spec.model, "model_index.json", revision=revision or None)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise SpecError(
            f"{spec.text}: no pipeline found; tried the folder {folder.absolute()} and the hub's {spec.model!r}: "
            f'{brief(error)}; expected a folder that "save_pretrained" wrote, or a hub id'
        ) from None
    commit = Path(index).parent.name  # .../snapshots/COMMIT/model_index.json
    warn_unpinned(spec.text, spec.model, revision, commit)
    return spec.model, {"model": spec.model, "revision": commit}, commit


def _finish(drawn: Future[DrawnBatch], png_writers: ThreadPoolExecutor) -> tuple[Pictures, float]:
    """Return the pictures of a batch, whose pixels are here, and the seconds that each took."""
    outputs, started = drawn.result()
    pictures = compress(outputs, png_writers)
    return pictures, (time.monotonic() - started) / max(1, len(pictures))
