"""Whatever happens to caches, and in whatever order: no row whose file exists vanishes, and none is paid for twice."""

import shutil

import pytest

from tests.teacher_cache.storage.histories import History


@pytest.fixture(autouse=True)
def _without_sync(monkeypatch):
    monkeypatch.setattr("teacher_cache.files.atomic_files._sync", lambda path: None)
    monkeypatch.setenv("ARMADA_PROGRESS", "off")


def run(folder, seed, steps=25):
    history = History(folder / str(seed), seed)
    for _ in range(steps):
        history.step()
    shutil.rmtree(folder / str(seed))


@pytest.mark.parametrize("seed", range(8))
def test_a_random_history_of_caches_agrees_with_a_dictionary_of_what_was_paid_for(tmp_path, seed):
    run(tmp_path, seed)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_five_hundred_random_histories_agree_with_a_dictionary_of_what_was_paid_for(tmp_path, first):
    for seed in range(first, first + 50):
        run(tmp_path, seed)
