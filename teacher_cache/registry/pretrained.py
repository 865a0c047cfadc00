"""Pretrained checkpoints: the local folder or Hugging Face model that a spec names, and the files that decide features.

A checkpoint's digest depends on its content alone, so that a moved or copied folder and the hub's own give the same
feature keys.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teacher_cache.errors import SpecError
from teacher_cache.keys import sha256
from teacher_cache.registry.packages import file_digest, quiet_transformers
from teacher_cache.registry.specs import Spec

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Formats = tuple[tuple[str, ...], ...]  # patterns of file names, the preferred format first


def _formats(safe: str, plain: str) -> Formats:
    """Return the patterns of safetensors and of PyTorch weights, whole or in parts, by the stems of their names."""
    stems = ((safe, "safetensors"), (plain, "bin"))
    return tuple((f"{stem}.{end}", f"{stem}.{end}.index.json", f"{stem}-*-of-*.{end}") for stem, end in stems)


TRANSFORMERS = _formats("model", "pytorch_model")
DIFFUSERS = _formats("diffusion_pytorch_model", "diffusion_pytorch_model")


@dataclass(frozen=True)
class Checkpoint:
    """A model's folder, and the relative paths of the files in it that decide a feature."""

    folder: Path
    files: tuple[str, ...]

    @property
    def commit(self) -> str:
        """The hub's commit, if the folder is in the hub's cache, else ""."""
        places = (self.folder, *self.folder.parents)
        return next((place.name for place in places if place.parent.name == "snapshots"), "")

    @property
    def digest(self) -> str:
        """The SHA-256 over the files' names and contents."""
        return sha256("".join(f"{name} {weights_digest(self.folder / name)}\n" for name in self.files).encode("utf-8"))

    def json(self, name: str) -> Any:
        """Return the content of a JSON file of the folder."""
        return json.loads((self.folder / name).read_text("utf-8"))

    def within(self, part: str) -> Checkpoint:
        """Return a subfolder as a checkpoint of its own."""
        names = [name.removeprefix(f"{part}/") for name in self.files if name.startswith(f"{part}/")]
        return Checkpoint(self.folder / part, tuple(names))


def find_checkpoint(
    spec: Spec, needs: Sequence[str], weights: Mapping[str, Formats], model: str = "", revision: str = ""
) -> Checkpoint:
    """Return the checkpoint that a spec names: a local folder, or else a hub model, downloaded unless it is cached.

    Args:
        spec: The spec, for its model and for messages.
        needs: Patterns of the files that decide a feature besides the weights.
        weights: The formats of the weights by the prefix of their path (`unet/`); the first format found is used.
        model: The folder or hub id, if it is not the spec's model.
        revision: The hub's revision; by default its main branch.

    Raise SpecError, with the places that were tried, if there is no such model or if weights are missing.
    """
    model = model or spec.model
    if not model:
        raise SpecError(f"{spec.text}: expected {spec.kind}:MODEL, a folder or a hub id")
    folder = Path(model).expanduser()
    if folder.is_dir():
        found, missing = _select_files(folder, needs, weights)
    else:
        for count in (1, 2):  # the second format is downloaded only if the first does not exist
            files = [part + name for part, formats in weights.items() for names in formats[:count] for name in names]
            found, missing = _select_files(_download(spec, model, revision, [*needs, *files]), needs, weights)
            if not missing:
                break
    if missing:
        raise SpecError(f"{spec.text}: no weights in {found.folder}; looked for {' or '.join(missing)}")
    return found


def _select_files(folder: Path, needs: Sequence[str], weights: Mapping[str, Formats]) -> tuple[Checkpoint, list[str]]:
    """Return the files of a folder that decide a feature, and the patterns of weights that it lacks."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    chosen = {name for name in files for pattern in needs if fnmatch(name, pattern)}
    missing = []
    for part, formats in weights.items():
        found = [[name for name in files for pattern in names if fnmatch(name, part + pattern)] for names in formats]
        best = next(filter(None, found), None)
        chosen |= set(best or ())
        missing += [] if best else [part + names[0] for names in formats]
    return Checkpoint(folder, tuple(sorted(chosen))), missing


def _download(spec: Spec, model: str, revision: str, patterns: list[str]) -> Path:
    """Return the folder of a hub model with the files that match. Raise SpecError if it can't be downloaded."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = Path(huggingface_hub.snapshot_download(model, revision=revision or None, allow_patterns=patterns))
        warn_unpinned(spec.text, model, revision, found.name)
        return found
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise SpecError(
            f"{spec.text}: no model there; tried the folder {Path(model).absolute()} and the hub's {model!r}: "
            f'{brief(error)}; expected a folder that "save_pretrained" wrote, or a hub id'
        ) from None


@cache
def warn_unpinned(text: str, model: str, revision: str, commit: str) -> None:
    """Say on standard error, once, which commit a hub model has now, if `revision` is none: a branch may move."""
    if not re.fullmatch("[0-9a-f]{40}", revision):
        print(
            f"warning: {text}: {model} is not pinned: its commit is {commit} now; add revision={commit} to the spec, "
            "so that a later commit does not change the model under you",
            file=sys.stderr,
        )


def brief(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def weights_digest(path: Path) -> str:
    """Return a file's SHA-256. In the hub's cache it is the name of a large file, which need not be read."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name
    return file_digest(path)


def load_pretrained(
    spec: Spec,
    model_class: type[PreTrainedModel],
    checkpoint: Checkpoint,
    *,
    unused: str = "",
    config: PretrainedConfig | None = None,
) -> PreTrainedModel:
    """Return a transformers model in evaluation mode and fp32, with all weights from the checkpoint.

    Weights whose names begin with `unused` may be missing. Raise SpecError if the model can't be loaded, and
    MissingWeightsError if another weight is missing: transformers would initialise it at random.
    """
    import torch

    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(
                checkpoint.folder, config=config, output_loading_info=True, dtype=torch.float32, local_files_only=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(f"{spec.text}: no {model_class.__name__} in {checkpoint.folder}: {brief(error)}") from None
    missing = sorted(name for name in report["missing_keys"] if not (unused and name.startswith(unused)))
    if missing:
        raise MissingWeightsError(spec, checkpoint, missing)
    return model.eval()


class MissingWeightsError(SpecError):
    """A checkpoint lacks weights of its architecture; `absent` are their names."""

    def __init__(self, spec: Spec, checkpoint: Checkpoint, absent: Sequence[str]) -> None:
        self.absent = absent
        super().__init__(
            f"{spec.text}: {checkpoint.folder} lacks {len(absent)} weights, among them {absent[0]}; "
            "they would be random: expected a complete checkpoint of this architecture"
        )
