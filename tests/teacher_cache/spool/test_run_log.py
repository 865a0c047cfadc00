"""The log of runs: minutes add up to the run, and a build never fails because of it."""

from dataclasses import replace

import pytest

from teacher_cache.spool.run_log import FILE, SILENT_S, Counts, Run, RunLog, read_minutes, read_runs

RUN = Run("a", "teacher", "encoder", "rows.jsonl", started=0.0, requested=100, at_hand=10, planned=90)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def write(folder, run=RUN, sums=((4, 1), (9, 1), (9, 3)), stopped=""):
    """Write a run with a beat in each minute; `sums` are what was drawn and has failed by then."""
    clock = Clock()
    clock.now = run.started
    with RunLog(folder, run, clock) as log:
        counts = Counts(0, 0, 0, 0.0)
        with log.drawing(lambda: counts):
            for minute, (drawn, failed) in enumerate(sums):
                clock.now = run.started + 60 * minute + 30
                counts = Counts(drawn, failed, drawn + failed, 0.04 * (drawn + failed))
                log._beat()
        log.stopped = stopped


def test_minutes_add_up_to_the_run_and_runs_to_the_night(tmp_path):
    write(tmp_path, stopped="budget")
    write(tmp_path, replace(RUN, build="b", started=86_400.0), sums=((2, 0), (7, 0)))
    first, second = read_runs(tmp_path)
    assert (first.drawn, first.failed, first.calls, first.stopped, first.ended) == (9, 3, 12, "budget", 150.0)
    minutes = read_minutes(tmp_path)
    assert [(one.drawn, one.failed) for one in minutes] == [(4, 1), (5, 0), (0, 2), (2, 0), (5, 0)]
    assert sum(one.cost_usd for one in minutes) == pytest.approx(first.cost_usd + second.cost_usd)
    assert [one.build for one in read_minutes(tmp_path, since=80_000)] == ["b", "b"]


def test_a_run_ends_with_an_error_if_the_build_raises(tmp_path):
    with pytest.raises(RuntimeError), RunLog(tmp_path, RUN, Clock()):
        raise RuntimeError
    assert read_runs(tmp_path)[0].stopped == "error"


def test_a_run_is_running_as_long_as_it_beats(tmp_path):
    with RunLog(tmp_path, RUN, Clock()):
        (run,) = read_runs(tmp_path)
    assert run.is_running(SILENT_S - 1)
    assert not run.is_running(SILENT_S)
    assert not read_runs(tmp_path)[0].is_running(1)


def test_a_log_that_is_damaged_or_can_not_be_written_stops_no_build(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    assert read_runs(tmp_path) == []
    write(tmp_path)
    write(tmp_path)
    assert [run.build for run in read_runs(tmp_path)] == ["a"]
    write(tmp_path / "missing")
    assert read_runs(tmp_path / "missing") == read_minutes(tmp_path / "missing") == []


def test_reading_a_log_leaves_no_file_beside_it(tmp_path):
    write(tmp_path)
    before = sorted(tmp_path.iterdir())
    read_runs(tmp_path)
    assert sorted(tmp_path.iterdir()) == before == [tmp_path / FILE]
