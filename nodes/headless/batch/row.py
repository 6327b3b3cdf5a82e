"""Drawing rows in this process: networks stay loaded from one to the next."""

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
from .host import StayingHost
from .plan import prompt_of
from .stages import nodes_before_cut, packed
from .staging import CannotWriteError, StagedFiles
from .tasks import Draft, Drawn, Failed, Setup, Stopped, Task

_log = logging.getLogger(__name__)


class RowRunner:
    """Draws the rows of one batch, one after the other.

    Args:
        device: None for CUDA where there is one, else the CPU.
    """

    def __init__(self, setup: Setup, device: str | None = None) -> None:
        torch.set_num_threads(setup.threads)
        self.setup = setup
        self.executor = Executor(setup.make_catalog(), keep_networks=True, repeat_outputs=True)
        self.host = StayingHost(input_folders=setup.input_folders, device=device)
        self.worker = f"{socket.gethostname()}:{os.getpid()}"

    def draw(self, task: Task, given: Mapping[str, Outputs] | None = None) -> Drawn | Failed | Stopped:
        """Draw a row; whatever goes wrong with it is in the answer.

        Args:
            given: what nodes of its workflow gave elsewhere.
        """
        start = time.monotonic()
        folder: Path | None = None
        try:
            prepared = self._prepared(task)
            folder = self.setup.folder / f"{task.row}-{task.attempt}-{os.urandom(4).hex()}"
            files = StagedFiles(folder)
            self._run(prepared, files, given)
        except Exception as error:  # a row may fail in any way; the others go on
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            _end_with_the_card(error)
            if blocked := _cannot_write(error):
                return Stopped(str(blocked))
            return Failed(task.row, task.attempt, self.worker, _since(start), _explained(error))
        return Drawn(task.row, task.attempt, self.worker, _since(start), files.saved)

    def draft(self, task: Task) -> Draft | Failed:
        """Run a row up to the cut (see `stages`)."""
        start = time.monotonic()
        try:
            prompt = self._prepared(task).prompt
            with hosts.using(self.host):
                values = self.executor.values(prompt, nodes_before_cut(prompt, self.executor.catalog))
        except Exception as error:
            _end_with_the_card(error)
            return Failed(task.row, task.attempt, self.worker, _since(start), _explained(error))
        return Draft(packed(values), _since(start))

    def _prepared(self, task: Task) -> Prepared:
        """The row's workflow, validated. Raises: WuerstchenError."""
        with hosts.using(self.host):
            catalog = self.executor.reread()
            prepared = prompt_of(self.setup.prepared, catalog, task.settings, task.seed)
            return Prepared(validate(prepared.prompt, catalog), prepared.workflow)

    def _run(self, prepared: Prepared, files: StagedFiles, given: Mapping[str, Outputs] | None) -> None:
        self.host.files = files
        with tempfile.TemporaryDirectory(prefix="wuerstchen-preview-") as previews:
            self.host.preview_folder = Path(previews)
            with hosts.using(self.host):
                self.executor.run(prepared.prompt, extra_pnginfo=prepared.extra_pnginfo, given=given)


def _explained(error: Exception) -> str:
    return str(error) or type(error).__name__


def _end_with_the_card(error: BaseException | None) -> None:
    """End this process where its graphics card can do nothing more for it: every later row would fail at once."""
    while error is not None:
        if "CUDA error" in str(error) and not isinstance(error, torch.OutOfMemoryError):
            _log.warning("%s", error)
            os._exit(1)
        error = error.__cause__


def _cannot_write(error: BaseException | None) -> CannotWriteError | None:
    while error is not None and not isinstance(error, CannotWriteError):
        error = error.__cause__
    return error


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)
