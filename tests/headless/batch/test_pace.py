"""Estimates of the time that is left."""

import pytest

from wuerstchen_nodes.headless.batch.folder.journal import DONE, FAILED, RowState
from wuerstchen_nodes.headless.batch.pace import Pace, duration, seconds_of


def test_the_first_row_of_a_worker_is_not_measured():
    pace = Pace(workers=1)
    assert pace.left(10) is None
    pace.add("a", 60.0)  # a minute of loading
    assert pace.left(10) is None
    pace.add("a", 62.0)
    pace.add("a", 66.0)
    assert pace.left(10) == 30.0


def test_workers_share_the_rows_that_are_left():
    pace = Pace(workers=4)
    for worker, ends in (("a", (10.0, 12.0)), ("b", (11.0, 15.0)), ("c", (20.0,))):
        for end in ends:
            pace.add(worker, end)
    assert pace.left(8) == 3.0 * 8 / 4
    assert pace.left(1) == 3.0
    assert pace.left(0) == 0


def test_earlier_rows_are_measured_without_loading_where_there_are_others():
    def state(worker: str, seconds: float, finished: str, status: str = DONE) -> RowState:
        return RowState(status=status, worker=worker, seconds=seconds, finished=finished)

    assert seconds_of([]) == (None, 0)
    assert seconds_of([state("a", 9, "1"), state("b", 7, "2"), state("b", 1, "3", FAILED)]) == (8, 2)
    assert seconds_of([state("a", 2, "3"), state("a", 9, "1"), state("a", 4, "2"), state("b", 8, "4")]) == (3, 2)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")])
def test_a_duration_is_in_words(seconds, text):
    assert duration(seconds) == text
