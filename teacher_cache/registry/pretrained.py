"""Checkpoints: the folder of a model that a spec names, local or of the Hugging Face hub, and the files that decide it.

A checkpoint's digest is that of its content: a moved folder, a copy and the hub's own give the same feature keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from teacher_cache.errors import SpecError
from teacher_cache.keys import sha256
from teacher_cache.registry.packages import file_digest, quiet_transformers
from teacher_cache.registry.specs import Spec

Formats = tuple[tuple[str, ...], ...]  # patterns of file names, the preferred format first


def _formats(safe: str, plain: str) -> Formats:
    stems = ((safe, "safetensors"), (plain, "bin"))
    return tuple((f"{stem}.{end}", f"{stem}.{end}.index.json", f"{stem}-*-of-*.{end}") for stem, end in stems)


TRANSFORMERS = _formats("model", "pytorch_model")
DIFFUSERS = _formats("diffusion_pytorch_model", "diffusion_pytorch_model")


@dataclass(frozen=True)
class Checkpoint:
    """A folder, and the relative paths of those of its files that decide a feature."""

    folder: Path
    files: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the files' names and contents."""
        return sha256("".join(f"{name} {weights_digest(self.folder / name)}\n" for name in self.files).encode("utf-8"))

    def json(self, name: str) -> Any:
        """What a JSON file of the folder holds."""
        return json.loads((self.folder / name).read_text("utf-8"))

    def within(self, part: str) -> Checkpoint:
        """The checkpoint that a subfolder is."""
        names = [name.removeprefix(f"{part}/") for name in self.files if name.startswith(f"{part}/")]
        return Checkpoint(self.folder / part, tuple(names))


def find_checkpoint(
    spec: Spec, needs: Sequence[str], weights: Mapping[str, Formats], model: str = "", revision: str = ""
) -> Checkpoint:
    """The local folder, else the hub's model (downloaded, or at hand in the hub's cache) that the spec names.

    `needs` are patterns of the files that count besides the weights; `weights` maps a path's beginning (`unet/`) to the
    formats that its weights come in, of which the first that is there counts. Raises SpecError, with what was tried.
    """
    model = model or spec.model
    if not model:
        raise SpecError(f"{spec.text}: expected {spec.kind}:MODEL, a folder or a hub id")
    folder = Path(model).expanduser()
    if folder.is_dir():
        found, lacking = _chosen(folder, needs, weights)
    else:
        for last in (1, 2):  # the second format is fetched only where the first isn't there
            files = [part + name for part, formats in weights.items() for names in formats[:last] for name in names]
            found, lacking = _chosen(_download(spec, model, revision, [*needs, *files]), needs, weights)
            if not lacking:
                break
    if lacking:
        raise SpecError(f"{spec.text}: no weights in {found.folder}; looked for {' or '.join(lacking)}")
    return found


def _chosen(folder: Path, needs: Sequence[str], weights: Mapping[str, Formats]) -> tuple[Checkpoint, list[str]]:
    """The files of a folder that count, and the names of those that it lacks."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    chosen = {name for name in files for pattern in needs if fnmatch(name, pattern)}
    lacking = []
    for part, formats in weights.items():
        found = [[name for name in files for pattern in names if fnmatch(name, part + pattern)] for names in formats]
        best = next(filter(None, found), None)
        chosen |= set(best or ())
        lacking += [] if best else [part + names[0] for names in formats]
    return Checkpoint(folder, tuple(sorted(chosen))), lacking


def _download(spec: Spec, model: str, revision: str, patterns: list[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(huggingface_hub.snapshot_download(model, revision=revision or None, allow_patterns=patterns))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise SpecError(
            f"{spec.text}: no model there; tried the folder {Path(model).absolute()} and the hub's {model!r}: "
            f'{brief(error)}; expected a folder that "save_pretrained" wrote, or a hub id'
        ) from None


def brief(error: Exception) -> str:
    """The first line of an error, or its name."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def weights_digest(path: Path) -> str:
    """A file's SHA-256, read off its name in the hub's cache, where large files are called by it."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name
    return file_digest(path)


def load_pretrained(spec: Spec, kind: Any, checkpoint: Checkpoint, *, unused: str = "", **kwargs: Any) -> Any:
    """A transformers model in evaluation mode, fp32, every weight of it from the checkpoint but those whose names begin
    with `unused`. Raises SpecError for one that isn't there, which the library would draw at random."""
    import torch

    try:
        with quiet_transformers():
            model, report = kind.from_pretrained(
                checkpoint.folder, output_loading_info=True, dtype=torch.float32, local_files_only=True, **kwargs
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(f"{spec.text}: no {kind.__name__} in {checkpoint.folder}: {brief(error)}") from None
    absent = sorted(name for name in report["missing_keys"] if not (unused and name.startswith(unused)))
    if absent:
        raise MissingWeightsError(spec, checkpoint, absent)
    return model.eval()


class MissingWeightsError(SpecError):
    """Weights that the checkpoint lacks."""

    def __init__(self, spec: Spec, checkpoint: Checkpoint, absent: Sequence[str]) -> None:
        self.absent = absent
        super().__init__(
            f"{spec.text}: {checkpoint.folder} lacks {len(absent)} weights, among them {absent[0]}; "
            "they would be random: expected a complete checkpoint of this architecture"
        )
