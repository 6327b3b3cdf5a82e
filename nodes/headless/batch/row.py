"""Run rows in this process, whose networks stay loaded from one row to the next."""

import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from ... import host as hosts
from ..execution.calls import Outputs
from ..execution.executor import Executor
from ..run import Prepared
from ..workflow.validate import validate
from .cut import nodes_before_cut, packed
from .folder.row_files import CannotWriteError, RowFiles
from .host import StayingHost
from .rows.plan import prompt_of
from .tasks import Draft, Drawn, Failed, Setup, Stopped, Task

_log = logging.getLogger(__name__)


class RowRunner:
    """Runs the rows of one batch, one after the other.

    Attributes:
        setup: Settings that all rows share.
        executor: Executor of all rows.
        host: Host of all rows.
        worker: Name of this process in events: host name and process id.

    Args:
        setup: Settings that all rows share.
        device: Device that networks compute on; None for CUDA if there is one, else the CPU.
    """

    def __init__(self, setup: Setup, device: str | None = None) -> None:
        torch.set_num_threads(setup.threads)
        self.setup = setup
        self.executor = Executor(setup.make_catalog(), keep_networks=True, repeat_outputs=True)
        self.host = StayingHost(input_folders=setup.input_folders, device=device)
        self.worker = f"{socket.gethostname()}:{os.getpid()}"

    def draw(self, task: Task, given: Mapping[str, Outputs] | None = None) -> Drawn | Failed | Stopped:
        """Run a row. Never raises an Exception.

        Args:
            task: The row.
            given: Results of nodes that ran in another process, by node id.
        Returns:
            Drawn | Failed | Stopped: The row's last event.
        """
        start = time.monotonic()
        folder: Path | None = None
        try:
            prepared = self._prepared(task)
            folder = self.setup.folder / f"{task.row}-{task.attempt}-{os.urandom(4).hex()}"
            files = RowFiles(folder)
            self._run(prepared, files, given)
        except Exception as error:  # nodes may raise anything; the other rows go on
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            _exit_after_cuda_error(error)
            if blocked := _cannot_write(error):
                return Stopped(str(blocked))
            return Failed(task.row, task.attempt, self.worker, _since(start), _explained(error))
        return Drawn(task.row, task.attempt, self.worker, _since(start), files.saved)

    def draft(self, task: Task) -> Draft | Failed:
        """Run the nodes of a row before the cut (see `cut.nodes_before_cut`). Never raises an Exception.

        Args:
            task: The row.
        Returns:
            Draft | Failed: Results of these nodes.
        """
        start = time.monotonic()
        try:
            prompt = self._prepared(task).prompt
            with hosts.using(self.host):
                values = self.executor.values(prompt, nodes_before_cut(prompt, self.executor.catalog))
        except Exception as error:
            _exit_after_cuda_error(error)
            return Failed(task.row, task.attempt, self.worker, _since(start), _explained(error))
        return Draft(packed(values), _since(start))

    def _prepared(self, task: Task) -> Prepared:
        """Return the validated workflow of a row. Raises: WuerstchenError."""
        with hosts.using(self.host):
            catalog = self.executor.reread()
            prepared = prompt_of(self.setup.prepared, catalog, task.settings, task.seed)
            return Prepared(validate(prepared.prompt, catalog), prepared.workflow)

    def _run(self, prepared: Prepared, files: RowFiles, given: Mapping[str, Outputs] | None) -> None:
        self.host.files = files
        with tempfile.TemporaryDirectory(prefix="wuerstchen-preview-") as previews:
            self.host.preview_folder = Path(previews)
            with hosts.using(self.host):
                self.executor.run(prepared.prompt, extra_pnginfo=prepared.workflow.extra_pnginfo, given=given)


def _explained(error: Exception) -> str:
    return str(error) or type(error).__name__


def _exit_after_cuda_error(error: BaseException | None) -> None:
    """End this process after a CUDA error, which would make every later row fail; the batch starts a new process."""
    while error is not None:
        if "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError):
            _log.warning("%s", error)
            os._exit(1)
        error = error.__cause__


def _cannot_write(error: BaseException | None) -> CannotWriteError | None:
    """Return the CannotWriteError among an error and its causes."""
    while error is not None and not isinstance(error, CannotWriteError):
        error = error.__cause__
    return error


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)
