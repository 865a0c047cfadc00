"""Training with weights sharded over two processes takes the same steps as one process."""

import pytest

from distill.training.distributed import is_sharded
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training.test_ranks import EXACT, STEPS, TOLERANCE, close, launch, read

pytestmark = pytest.mark.timeout(900)  # the runs that all these tests compare are minutes long on a busy machine
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": 2}
CASES = {
    "bert": {},
    "relational in two parts": {"manifold": "relational", "accumulate": 2, "epochs": 1, "lr": 1e-4},
    "deberta-v2": {"epochs": 1, "no_decay": "biases-and-norms"},
    "crossfit": {"objective": "crossfit", "epochs": 1},
    "llama": {"lora_rank": 2, "epochs": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs with 2 sharded processes and with 1 process, by number and case.

    Three runs are interrupted and resumed: `same` with 2 processes each time, `fewer` with 2 and then 1, `more` with 1
    and then 2.
    """
    home = tmp_path_factory.mktemp("sharded")
    save_student(home / "bert", layers=2, **EXACT)
    save_student(home / "deberta-v2", "deberta-v2", 2, **EXACT)
    save_decoder(home / "llama", layers=2, initializer_range=EXACT["initializer_range"])
    for ranks, extra in ((1, {}), (2, FSDP)):
        for student in ("bert", "deberta-v2", "llama"):
            cases = [
                case
                for case in CASES
                if case == student or (student == "bert" and case.startswith(("relational", "crossfit")))
            ]
            runs = [(home / str(ranks) / case, CASES[case]) for case in cases]
            if student == "bert":
                runs.append((home / "more", {"stop_at": 9} if ranks == 1 else {}))
            if student == "bert" and ranks == 2:
                runs += [(home / name, {"stop_at": 9}) for name in ("same", "fewer")]
                runs.append((home / "same", {}))
            launch(ranks, home / student, runs, **extra)
    launch(1, home / "bert", [(home / "fewer", {})])
    return home


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_sharded_ranks_have_parts_of_the_weights_and_the_losses_and_weights_equal_those_of_one_process(folder, case):
    (lines, facts), (expected, (alone,)) = read(folder / "2" / case), read(folder / "1" / case)
    assert [fact["ranks"] for fact in facts] == [2, 2]
    assert sum(fact["held"] for fact in facts) == alone["held"]
    assert max(fact["held"] for fact in facts) < 0.6 * alone["held"]
    assert [fact["units"] for fact in [*facts, alone]] == [3, 3, 0]  # two layers and the rest
    assert facts[0]["steps"] == facts[1]["steps"] == alone["steps"]
    assert close(lines, expected)
    for fact in facts:  # the model of every rank is complete again
        assert fact["weights"] == pytest.approx(alone["weights"], abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ranks"), [("same", 2), ("fewer", 1), ("more", 2)])
def test_a_run_stopped_in_the_middle_of_an_epoch_resumes_with_any_number_of_ranks(folder, name, ranks):
    (lines, facts), (expected, (alone,)) = read(folder / name), read(folder / "1" / "bert")
    assert [fact["steps"] for fact in facts[:ranks]] == [STEPS[8:]] * ranks
    assert close(lines, expected)
    assert facts[0]["weights"] == pytest.approx(alone["weights"], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("FSDP_VERSION", "1", "fsdp_version 1"),
        ("FSDP_OFFLOAD_PARAMS", "true", "fsdp_offload_params"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "fsdp_activation_checkpointing"),
        ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true", "fsdp_cpu_ram_efficient_loading"),
    ],
)
def test_unsupported_options_of_fsdp_are_refused_by_name(monkeypatch, variable, value, found):
    from types import SimpleNamespace

    for name, setting in {**FSDP, variable: value}.items():
        monkeypatch.setenv(name, str(setting))
    with pytest.raises(ArmadaError, match=f"expected FSDP of version 2 .* found {found};"):
        is_sharded(SimpleNamespace(num_processes=2))
    assert not is_sharded(SimpleNamespace(num_processes=1))
