"""The weights of a loaded student: those of its files, and those that its files lack.

Only a task head, and a pooler, may be new; all else would be a random student under the name of a trained one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@dataclass(frozen=True)
class WeightsReport:
    """Names of weights: `new` are initialised by the seed, `unused` are in the files and not in the student."""

    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def check_weights(
    name: str,
    model: PreTrainedModel,
    info: Mapping[str, Iterable[Any]],
    *,
    replaceable: Sequence[str],
    head: Sequence[str],
    cut: bool,
) -> WeightsReport:
    """Return which weights are new and which are unused; say on standard error what is not a matter of course.

    Args:
        name: the student's name, for messages.
        model: the loaded model.
        info: the loading information of transformers.
        replaceable: the modules of which weights may be new: those outside the body, and a pooler.
        head: those of them that are new for every task, unless the files have one that fits.
        cut: only the first layers are kept, so those behind them are unused.

    Raise ArmadaError if a weight that may not be new is missing or has another shape, if the files have more layers
    than the configuration, or if a weight is not finite.
    """
    shapes = {str(key): (tuple(found), tuple(expected)) for key, found, expected in info["mismatched_keys"]}
    missing, unexpected = sorted(map(str, info["missing_keys"])), sorted(map(str, info["unexpected_keys"]))

    def is_of(weight: str, modules: Iterable[str]) -> bool:
        return any(weight.startswith(f"{module}.") for module in modules)

    if wrong := [weight for weight in missing if not is_of(weight, replaceable)]:
        raise ArmadaError(f"{name}: {_lacking(wrong, unexpected)}; they would be random")
    if wrong := [weight for weight in shapes if not is_of(weight, replaceable) or "pooler." in weight]:
        found, expected = shapes[wrong[0]]
        raise ArmadaError(
            f"{name}: the weights don't have the shapes that config.json says: {wrong[0]}: expected {expected}, found "
            f"{found}{_and_more(wrong)}"
        )
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None) or len(unexpected)
    beyond = [weight for weight in unexpected if (place := _LAYER.search(weight)) and int(place[1]) >= layers]
    if beyond and not cut:
        raise ArmadaError(
            f"{name}: config.json says {layers} layers, and the weights have more: {beyond[0]}{_and_more(beyond)}; "
            "to keep the first layers only, correct config.json, or use --layers"
        )
    check_finite(model, name)
    known = [child for child, _ in model.named_children() if child not in replaceable]
    new = (*missing, *sorted(shapes))
    unused = tuple(weight for weight in unexpected if weight not in beyond)
    _say(name, "initialised anew, because its files lack them", [one for one in new if not is_of(one, head)])
    _say(name, "in its files and not used", [one for one in unused if is_of(one, known)])
    return WeightsReport(new, unused)


def check_finite(model: nn.Module, name: str) -> None:
    """Raise ArmadaError, naming the weight, if a weight of the model is a NaN or an infinity."""
    for weight, value in model.named_parameters():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ArmadaError(f"{name}: {weight}: expected finite weights, found a NaN or an infinity among them")


def _lacking(missing: list[str], unexpected: list[str]) -> str:
    words = f"expected {len(missing)} more weights in the student's files, among them {missing[0]}"
    prefix = next((one[: -len(missing[0])] for one in unexpected if one.endswith(f".{missing[0]}")), "")
    if prefix:
        return (
            f"{words}, found them under names that begin with {prefix!r}, as parallel training saves them: rename them"
        )
    return f"{words}, found {len(unexpected)} of other names{f', among them {unexpected[0]}' if unexpected else ''}"


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _say(name: str, what: str, weights: list[str]) -> None:
    if weights and os.environ.get("RANK", "0") == "0":
        modules = list(dict.fromkeys(weight.rpartition(".")[0] for weight in weights))
        print(f"{name}: {len(weights)} weights {what}: {', '.join(modules[:8])}", file=sys.stderr)


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that training changes, on the CPU, by name."""
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return {name: value.cpu().contiguous() for name, value in weights.items()}
