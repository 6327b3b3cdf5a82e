"""Engine that runs rows in worker processes on this machine. The batch goes on if one of them dies."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from wuerstchen_core.errors import WuerstchenError

from ...report import LOGGERS
from ...threads import share_processor
from ..queue import TaskQueue
from ..tasks import Event, Failed, Setup, Started, Task

_log = logging.getLogger(__name__)
_SPAWN = multiprocessing.get_context("spawn")
_SECONDS_TO_END = 5
"""Seconds that a worker without a connection has to end."""
_READY = "ready"
"""Message: a worker has started."""


@dataclass(frozen=True)
class _LogLine:
    """Message: a line of a worker's log."""

    level: int
    text: str


@dataclass(frozen=True)
class _StartError:
    """Message: a worker cannot start."""

    error: str


class LocalEngine:
    """Engine that runs tasks in worker processes. As a context, it ends them.

    Args:
        setup: Settings that all rows share.
        workers: Number of processes, each with its own networks.
    """

    def __init__(self, setup: Setup, workers: int) -> None:
        share_processor()  # the processes inherit it, and load torch after it is set
        self._setup = setup
        self._count = workers
        self._workers: dict[int, _Worker] = {}

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def run(self, tasks: list[Task]) -> Iterator[Event]:
        """Run tasks and yield Started, then Drawn, Failed or Stopped of each. No task is run twice.

        Args:
            tasks: Rows to run.
        Raises:
            WuerstchenError: A worker cannot start.
        """
        queue = TaskQueue(tasks)
        for number in range(min(self._count, len(tasks))):
            yield from self._assign(number, queue)
        while any(worker.task for worker in self._workers.values()):
            ready = wait([worker.connection for worker in self._workers.values() if worker.task])
            for number, worker in list(self._workers.items()):
                if worker.connection in ready:
                    yield from self._receive(number, worker, queue)

    def _receive(self, number: int, worker: "_Worker", queue: TaskQueue) -> Iterator[Event]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):  # an OSError where it died while it was sending
            yield worker.died()
            del self._workers[number]
            yield from self._assign(number, queue)
            return
        if isinstance(message, _LogLine):
            _log.log(message.level, "%s: %s", worker.name, message.text)
        elif isinstance(message, _StartError):
            raise WuerstchenError(f"A worker cannot start: {message.error}")
        elif message == _READY:
            worker.ready = True
        else:
            worker.task = None
            yield message
            yield from self._assign(number, queue)

    def _assign(self, number: int, queue: TaskQueue) -> Iterator[Event]:
        task = queue.take(number)
        if task is None:
            return
        if number not in self._workers:
            self._workers[number] = _Worker(number, self._setup)
        worker = self._workers[number]
        yield Started(task.row, task.attempt, worker.name)
        worker.give(task)


@dataclass
class _Worker:
    """Worker process and its current task.

    Attributes:
        number: Number of the worker, from 0.
        setup: Settings that all rows share.
        task: Task that it runs; None while it has none.
        ready: True after it has started, so that it can run rows.
        process: The process.
        connection: Sends tasks; receives events and log lines.
    """

    number: int
    setup: Setup
    task: Task | None = None
    ready: bool = False
    process: Any = field(init=False)
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=serve, args=(theirs, self.setup, self.number), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def name(self) -> str:
        """Host name and process id."""
        return f"{socket.gethostname()}:{self.process.pid}"

    def give(self, task: Task) -> None:
        """Send a task to the process."""
        self.task = task
        with suppress(ConnectionError):  # it has just died, which `wait` will report
            self.connection.send(task)

    def died(self) -> Failed:
        """Return the event of a task whose process ended. Raises: WuerstchenError if the worker was still starting."""
        self.process.join(_SECONDS_TO_END)
        if self.process.is_alive():  # it has lost its connection, but goes on
            self.process.kill()
            self.process.join()
        code: int = self.process.exitcode
        how = _signal_text(-code) if code < 0 else f"exit code {code}"
        assert self.task is not None
        if not self.ready:
            raise WuerstchenError(f"A worker process died while it was starting ({how}).")
        self.connection.close()
        return Failed(self.task.row, self.task.attempt, self.name, 0, f"its worker process died ({how})", died=True)

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _signal_text(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:  # a real-time signal, which has no name
        return f"signal {number}"


def serve(connection: Connection, setup: Setup, number: int) -> None:
    """Run tasks in a worker process until the connection closes.

    Args:
        connection: Receives tasks; sends events and log lines.
        setup: Settings that all rows share.
        number: Number of the worker, which chooses its graphics card.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends its workers
    os.dup2(2, 1)  # stdout is for the results that the parent prints
    threading.Thread(target=_end_with_parent, daemon=True).start()
    handler = _Forward(connection)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        import torch

        from ..row import RowRunner

        cards = torch.cuda.device_count()
        runner = RowRunner(setup, f"cuda:{number % cards}" if cards else None)
    except Exception as error:
        connection.send(_StartError(f"{type(error).__name__}: {error}"))
        return
    connection.send(_READY)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            event = runner.draw(task)
        except BaseException as error:  # a node that exits ends its process, as one that crashes does
            _log.warning("row %d ended its worker process: %s", task.row + 1, type(error).__name__)
            os._exit(1)
        connection.send(event)


class _Forward(logging.Handler):
    """Log handler that sends warnings to the parent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(_LogLine(record.levelno, record.getMessage()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
