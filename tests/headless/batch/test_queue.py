"""Order in which workers take rows."""

from wuerstchen_nodes.headless.batch.queue import TaskQueue
from wuerstchen_nodes.headless.batch.tasks import Task


def queue(groups: str) -> TaskQueue:
    return TaskQueue([Task(row, 1, group, {}, None) for row, group in enumerate(groups)])


def taken(tasks: TaskQueue, workers: str) -> list[int | None]:
    return [None if task is None else task.row for task in (tasks.take(int(worker)) for worker in workers)]


def test_one_worker_goes_group_by_group():
    assert taken(queue("abab"), "00000") == [0, 2, 1, 3, None]


def test_each_worker_stays_with_a_group_of_its_own():
    assert taken(queue("aabbcc"), "0101012") == [0, 2, 1, 3, 4, 5, None]


def test_a_free_worker_helps_with_the_largest_group():
    assert taken(queue("aabbbb"), "0120101") == [0, 2, 3, 1, 4, 5, None]
