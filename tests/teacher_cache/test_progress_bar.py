"""What a progress bar says of the time that is left."""

import pytest
from tqdm import tqdm

from teacher_cache.progress_bar import EARLY_SECONDS, progress


@pytest.mark.parametrize(
    ("done", "elapsed", "is_shown"), [(1, 10, False), (19, 10, False), (20, 10, True), (1, 61, True)]
)
def test_no_remaining_time_is_shown_while_the_first_units_wait_for_models(done, elapsed, is_shown, monkeypatch):
    with progress(1000, "teacher", "picture") as bar:
        assert EARLY_SECONDS == 60
        monkeypatch.setattr(bar, "start_t", bar._time() - elapsed)
        bar.n = done
        assert ("<" in str(bar)) is is_shown


def test_units_of_an_earlier_process_do_not_count_as_progress_of_this_one():
    with progress(1000, "teacher", "picture", done=500) as bar:
        bar.n = 501
        assert "<" not in str(bar)


def test_a_bar_opens_while_other_threads_open_bars_of_tqdm():
    opened = []

    class Bar:
        @property
        def pos(self):  # read while the set of open bars is gone through: meanwhile another thread opens one
            opened.append(Bar())
            tqdm._instances.add(opened[-1])
            return 0

    other = Bar()
    tqdm._instances.add(other)
    try:
        with progress(10, "teacher", "picture") as bar:
            assert bar.pos == 0
            assert not opened
    finally:
        for one in (other, *opened):
            tqdm._instances.discard(one)
