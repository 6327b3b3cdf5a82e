from pathlib import Path

from wuerstchen_nodes.headless.batch.engines.marks import Marks
from wuerstchen_nodes.headless.batch.tasks import Drawn, Failed, Task

TASK = Task(4, 2, "", {}, None)


class Death(BaseException):
    """Stands for the end of the process."""


def dies() -> None:
    raise Death


def tried(work) -> object:
    """Once, in a process of its own."""
    try:
        return Marks(Path("marks")).once(TASK, "here:1", work)
    except Death:
        return "died"


def test_what_was_done_is_not_done_again():
    drawn = Drawn(4, 2, "here:1", 1.5, [])
    assert tried(lambda: drawn) == drawn
    assert tried(dies) == drawn


def test_a_row_that_ended_three_processes_is_not_tried_again():
    assert [tried(dies) for _ in range(3)] == ["died"] * 3
    failed = tried(dies)
    assert isinstance(failed, Failed)
    assert (failed.quarantined, failed.attempt) == (True, 4)
    assert "3 times" in failed.error


def test_a_row_may_end_two():
    assert [tried(dies), tried(dies), tried(lambda: "well")] == ["died", "died", "well"]
