"""A worker's adapters: on its own GPU, and equal to the coordinator's."""

from dataclasses import replace

import pytest

from teacher_cache import ArmadaError, BuildOptions, open_encoder, open_teacher, source_of_encoder, source_of_teacher
from teacher_cache.crews.devices import on_device, open_adapters
from teacher_cache.crews.messages import Setup

TEACHER, ENCODER = "tests.fakes:FakeTeacher", "tests.fakes:FakeEncoder?version=2"
SETUP = Setup(
    "cache",
    TEACHER,
    ENCODER,
    source_of_teacher(open_teacher(TEACHER)).digest,
    source_of_encoder(open_encoder(ENCODER)).digest,
    BuildOptions(),
)


def test_the_device_is_added_to_a_spec_that_names_none():
    assert on_device("diffusers:x", "cuda:1") == "diffusers:x?device=cuda:1"
    assert on_device("diffusers:x?steps=2", "cuda:1") == "diffusers:x?steps=2&device=cuda:1"
    assert on_device("diffusers:x?device=cpu", "cuda:1") == "diffusers:x?device=cpu"


def test_a_worker_with_another_version_of_an_adapter_is_refused():
    teacher, encoder = open_adapters(SETUP)
    assert (teacher.spec["kind"], encoder.spec["version"]) == ("fake", "2")
    for name, noun in (("teacher_digest", "teacher"), ("encoder_digest", "encoder")):
        with pytest.raises(ArmadaError, match=f"the {noun} of this worker has the digest .*, expected 000"):
            open_adapters(replace(SETUP, **{name: "0" * 64}))
