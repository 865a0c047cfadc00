"""The precision of training: measured once on a processor, kept, and overridden by an option."""

import json

import pytest
import torch

from distill.students import machine_speed
from distill.students.machine_speed import Speed, choose_precision, measure, processor_speed
from teacher_cache import ArmadaError


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The measurements made, of which bfloat16 takes `times[1]` milliseconds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ARMADA_PRECISION")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    calls, times = [], [2.0, 1.0]

    def fake(kind):
        calls.append(kind)
        return times[kind is not None]

    monkeypatch.setattr(machine_speed, "measure", fake)
    return calls, times


def test_a_processor_is_measured_once_and_the_figures_are_kept_and_said(measured, tmp_path):
    calls, times = measured
    first = choose_precision("auto", on_cpu=True)
    times[1] = 100.0  # not measured again
    assert choose_precision("auto", on_cpu=True) == first
    assert calls == [None, torch.bfloat16]
    assert first.used == first.mixed == "bf16"
    assert "1.0 ms in bf16 and 2.0 ms in fp32" in first.reason
    (kept,) = json.loads((tmp_path / "armada" / "processor-speed.json").read_text())
    assert (kept["fp32_ms"], kept["bf16_ms"], kept["torch"]) == (2.0, 1.0, torch.__version__)


def test_an_environment_variable_makes_machines_compute_alike(measured, monkeypatch):
    monkeypatch.setenv("ARMADA_PRECISION", "fp32")
    assert choose_precision("auto", on_cpu=True) == machine_speed.Precision("fp32", "ARMADA_PRECISION")
    assert choose_precision("bf16", on_cpu=True).used == "bf16"  # an option wins
    monkeypatch.setenv("ARMADA_PRECISION", "fast")
    with pytest.raises(ArmadaError, match="ARMADA_PRECISION: expected bf16, fp16 or fp32, found 'fast'"):
        choose_precision("auto", on_cpu=True)
    assert measured[0] == []


def test_flags_do_not_decide_but_the_time_of_a_step(measured, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    measured[1][:] = [1.75, 2.57]  # seen on a Xeon with avx512_bf16 and amx in its flags
    found = choose_precision("auto", on_cpu=True)
    assert (found.used, found.mixed) == ("fp32", "no")


def test_another_processor_or_torch_is_measured_again(measured, monkeypatch, tmp_path):
    processor_speed()
    monkeypatch.setattr(machine_speed, "processor_name", lambda: "another")
    assert processor_speed().processor == "another"
    assert len(json.loads((tmp_path / "armada" / "processor-speed.json").read_text())) == 2
    assert len(measured[0]) == 4


@pytest.mark.parametrize("content", ["", "[{}]", "{"])
def test_a_damaged_or_unwritable_file_is_no_error(measured, tmp_path, content):
    (tmp_path / "armada").mkdir()
    (tmp_path / "armada" / "processor-speed.json").write_text(content)
    assert processor_speed().bf16_ms == 1.0
    (tmp_path / "file").write_text("")
    assert processor_speed(tmp_path / "file").fp32_ms == 2.0


def test_an_option_overrides_and_what_the_device_lacks_is_refused(measured):
    for requested in ("fp32", "bf16"):
        assert choose_precision(requested, on_cpu=True).used == requested
    assert measured[0] == []
    with pytest.raises(ArmadaError, match="--precision fp16: expected a CUDA GPU, found none"):
        choose_precision("fp16", on_cpu=True)


def test_a_gain_within_the_noise_is_none():
    assert not Speed("", "", 1.0, 0.95).prefers_bf16
    assert Speed("", "", 1.0, 0.6).prefers_bf16


def test_a_measurement_is_positive_and_leaves_the_random_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert 0 < measure(None) < 60_000
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("real", "used"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_that_would_emulate_bfloat16_computes_in_fp16(measured, monkeypatch, real, used):
    """torch says of a card before Ampere that it supports bfloat16, which it emulates in float32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: real or including_emulation)
    assert choose_precision("auto", on_cpu=False).used == used
    assert choose_precision("fp16", on_cpu=False).mixed == "fp16"
    if not real:
        with pytest.raises(ArmadaError, match="--precision bf16: this GPU can't compute in bfloat16; use fp16"):
            choose_precision("bf16", on_cpu=False)
