"""Attempts and results of rows that outlive their process."""

from pathlib import Path

from wuerstchen_nodes.headless.batch.engines.attempts import Attempts
from wuerstchen_nodes.headless.batch.tasks import Drawn, Failed, Task

TASK = Task(4, 2, "", {}, None)


class Death(BaseException):
    """Stands in for the end of the process."""


def dies() -> None:
    raise Death


def attempt(work) -> object:
    """Run a row once, like a new process."""
    try:
        return Attempts(Path("attempts")).run_once(TASK, "here:1", work)
    except Death:
        return "died"


def test_a_row_with_a_result_does_not_run_again():
    drawn = Drawn(4, 2, "here:1", 1.5, [])
    assert attempt(lambda: drawn) == drawn
    assert attempt(dies) == drawn


def test_a_row_that_ended_three_processes_is_not_tried_again():
    assert [attempt(dies) for _ in range(3)] == ["died"] * 3
    failed = attempt(dies)
    assert isinstance(failed, Failed)
    assert (failed.quarantined, failed.attempt) == (True, 4)
    assert "3 times" in failed.error


def test_a_row_may_end_two_processes():
    assert [attempt(dies), attempt(dies), attempt(lambda: "well")] == ["died", "died", "well"]
