"""The files of a student: they decide what it is, so they are checked before anything is loaded, and name it.

A student is known by the content of its files and not by its path; one of the hub, by its commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.students.files.pairs import add_separator, check_pairs
from teacher_cache import ArmadaError, canonical_json, quiet_transformers, sha256

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")
TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")
LFS = b"version https://git-lfs"
_PIECE = 1 << 20  # bytes
_NEEDS_CODE = (
    "its files bring code of their own (auto_map in config.json or tokenizer_config.json), which is not run; expected "
    "an architecture of transformers itself; if you have read the code and trust it, add --trust-remote-code"
)


@dataclass(frozen=True)
class Source:
    """Where a student comes from: the folder or hub id that is loaded, and how."""

    name: str  # for messages
    path: str
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `from_pretrained`. Without a word on its code, transformers would ask on the terminal."""
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        return options | ({"revision": self.revision} if self.revision else {})


def student_identity(
    name: str, path: str, revision: str | None = None, trust_remote_code: bool = False
) -> dict[str, Any]:
    """Return what names a student besides its name: the digest of its files, or its commit on the hub.

    `path` is the folder or hub id that is loaded. A student of an installed package has its name only. One whose code
    is run is named by that too.
    """
    if path != name:
        return {}
    folder, trusted = Path(path), {"trust_remote_code": True} if trust_remote_code else {}
    if folder.is_dir():
        check_files(name, folder)
        return {"content": content_digest(folder, trust_remote_code), **trusted}
    commit = getattr(load_config(Source(name, path, revision, trust_remote_code)), "_commit_hash", None)
    return ({"commit": str(commit)} if commit else {}) | trusted


def content_digest(folder: Path, with_code: bool = False) -> str:
    """Return the digest of a student's configuration, weights and tokenizer, whatever their folder is called.

    With `with_code`, its Python files count too.
    """
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file() and _decides(path.name)]
    names += sorted(path.name for path in folder.glob("*.py")) if with_code else []
    return sha256(canonical_json([[name, _file_digest(folder / name)] for name in names]))


def _decides(name: str) -> bool:
    return name == "config.json" or any(fnmatch(name, pattern) for pattern in (*WEIGHTS, *TOKENIZER))


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def check_files(name: str, folder: Path) -> None:
    """Raise ArmadaError, naming the file, if a file of the student can't be what its name says."""
    if not (folder / "config.json").is_file():
        raise ArmadaError(
            f"{name}: no student here; expected a folder that save_pretrained wrote, found no config.json in {folder}"
        )
    for path in sorted(folder.iterdir()):
        if path.is_file() and _decides(path.name) and (fault := _fault(path)):
            raise ArmadaError(f"{name}: {path}: {fault}; copy the student's files again")


def _fault(path: Path) -> str:
    if not path.stat().st_size:
        return "" if path.suffix == ".txt" else "the file is empty"
    with path.open("rb") as stream:
        start = stream.read(len(LFS))
    if start == LFS:
        return 'expected the file itself, found a pointer of git-lfs, which "git lfs pull" replaces'
    if path.suffix == ".json":
        try:
            json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            return f"expected JSON: {error}"
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            return f"the weights are damaged or cut off: {error}"
    return ""


def load_config(source: Source) -> PretrainedConfig:
    """Return the configuration of a student. Raise ArmadaError if it has none, or one that needs code of its own."""
    from transformers import AutoConfig

    try:
        with quiet_transformers(Path(source.path).exists()):
            return AutoConfig.from_pretrained(source.path, **source.options)
    except Exception as error:
        raise ArmadaError(not_loaded(source, error)) from None


def not_loaded(source: Source, error: Exception) -> str:
    """Return the message for an error of transformers while it loads a student."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in reason:
        return f"{source.name}: {_NEEDS_CODE}"
    at = f" at revision {source.revision}" if source.revision else ""
    return f"{source.name}: no student here; expected a folder or a hub id, tried {source.path}{at}: {reason}"


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a student, with a padding token, and a separator of pairs where it can have one.

    The padding token is its end token, if it has none. `pair_separator` is the separator that was added, or None.

    Raise ArmadaError if it has no tokenizer, one that needs code of its own, or one that knows special tokens only, as
    transformers makes it for a folder without a tokenizer.
    """
    from transformers import AutoTokenizer

    name, path = source.name, source.path
    expected = (
        f"{name}: expected a tokenizer (tokenizer.json, or vocab.txt, or another of transformers) in {path}, found "
    )
    mend = f"; save the one that the student was trained with: tokenizer.save_pretrained({path!r})"
    try:
        with quiet_transformers(Path(path).exists()):
            tokenizer = AutoTokenizer.from_pretrained(path, **source.options)
    except Exception as error:
        reason = " ".join(str(error).split())
        if "trust_remote_code" in reason:
            raise ArmadaError(f"{name}: {_NEEDS_CODE}") from None
        raise ArmadaError(f"{expected}none that loads: {reason}{mend}") from None
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if not words:
        raise ArmadaError(f"{expected}none: the {len(tokenizer)} tokens that it would have are all special{mend}")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ArmadaError(f"{name}: expected a tokenizer with a padding token or an end token, found neither")
        tokenizer.pad_token = tokenizer.eos_token
        say_once(
            f"{name}: its tokenizer has no padding token: rows are padded with its end token {tokenizer.eos_token}"
        )
    tokenizer.pair_separator = add_separator(tokenizer)
    return tokenizer


def pair_separator(source: Source) -> str | None:
    """Return the token that separates pairs, if the student's own tokenizer has none for that; None if it has one.

    Raise ArmadaError if pairs can't be separated.
    """
    tokenizer = load_tokenizer(source)
    check_pairs(source.name, tokenizer)
    separator: str | None = tokenizer.pair_separator
    return separator


@cache
def say_once(message: str) -> None:
    """Say something on standard error, once in a process, and by one process only."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)


def check_vocabulary(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ArmadaError if the tokenizer has a token without an embedding."""
    largest, rows = max(tokenizer.get_vocab().values()) + 1, model.get_input_embeddings().weight.shape[0]
    if largest > rows:
        raise ArmadaError(
            f"{name}: expected an embedding for each of the tokenizer's {largest} tokens, found {rows}; make them as "
            f"many where tokens were added: model.resize_token_embeddings({largest})"
        )
