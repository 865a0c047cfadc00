"""Values in a spec are checked when it is opened: before a picture is paid for."""

import pytest
import torch

from teacher_cache import ArmadaError, BuildOptions, SpecError, open_encoder, open_teacher
from teacher_cache.registry.specs import parse_spec
from teacher_cache.registry.torch_models import choose_device


@pytest.mark.parametrize("size", [0, -3, 15, 100_000])
def test_a_canvas_of_no_size_is_refused(size):
    with pytest.raises(SpecError, match=f"option size expects 16 to 4096 pixels, found {size}"):
        open_teacher(f"pictogram?size={size}")


def test_a_model_that_a_kind_does_not_have_is_refused():
    with pytest.raises(SpecError, match=r"pictogram:x: pictogram has no models: expected pictogram\[\?OPTION"):
        open_teacher("pictogram:x")
    with pytest.raises(SpecError, match="efficientnet-lite0:b7: efficientnet-lite0 has no models"):
        open_encoder("efficientnet-lite0:b7")


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_this_machine_lacks_is_refused_when_the_spec_is_opened(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SpecError, match=f"text:minilm.*option device: .* which has 0 of this type, found '{device}'"):
        open_encoder(f"text:minilm?device={device}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if device == "cuda":
        assert choose_device(device) == device


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_number_of_a_spec_is_nan_or_infinite(value):
    with pytest.raises(SpecError, match="option price expects a finite number"):
        parse_spec(f"kind?price={value}").options({"price": 0.5})


@pytest.mark.parametrize("name", ["budget_usd", "seal_seconds"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_no_number_of_a_build_is_nan_infinite_or_negative(name, value):
    with pytest.raises(ArmadaError, match=f"--{name.replace('_', '-')}: expected a finite number of at least 0"):
        BuildOptions(**{name: value})
