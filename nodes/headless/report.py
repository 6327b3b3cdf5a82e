"""Output of the command: results on stdout, everything else on stderr."""

import json
import logging
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from wuerstchen_core.errors import WeightsMissingError, WorkflowError, WuerstchenError

from .errors import BackendError, InvalidWorkflowError, RunError, UsageError

FAILED, BAD_USAGE, INVALID_WORKFLOW, WEIGHTS_MISSING, PARTLY_FAILED, BACKEND_UNAVAILABLE = 1, 2, 3, 4, 5, 6
INTERRUPTED = 130
LOGGERS = ("wuerstchen_core", "wuerstchen_nodes")
"""Loggers of this project."""


class Report:
    """Prints the output of one command. As a context, it shows the log of the core and the nodes on stderr.

    Args:
        as_json: Print one JSON object a line on stdout instead of plain lines.
        quiet: Print only warnings and errors on stderr.
        debug: Print errors with their traceback.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.debug = debug
        self._handler = _Handler(sys.stderr)
        self._handler.setFormatter(_Formatter())

    def __enter__(self) -> "Report":
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self._handler)
            logger.setLevel(logging.DEBUG if self.debug else logging.WARNING if self.quiet else logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
            logging.getLogger(name).setLevel(logging.NOTSET)

    def result(self, plain: str, **fields: Any) -> None:
        """Print one line on stdout: the plain text, or the fields as JSON."""
        with _without_bars():
            print(json.dumps(fields) if self.as_json else plain, flush=True)

    def event(self, **fields: Any) -> None:
        """Print the fields as a line of JSON on stdout; nothing without --json."""
        if self.as_json:
            self.result("", **fields)

    def note(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            self._to_stderr(text)

    def interrupted(self) -> int:
        """Report that the user interrupted the command, and return the exit code."""
        self._to_stderr("wuerstchen: interrupted")
        self.event(event="error", exit_code=INTERRUPTED, type="interrupted", message="interrupted")
        return INTERRUPTED

    def failed(self, error: Exception) -> int:
        """Report an error and return the exit code."""
        code = exit_code(error)
        message = str(error)
        if not isinstance(error, WuerstchenError):
            message = f"unexpected {type(error).__name__}: {error}. Run again with --debug to see where."
        if self.debug:
            self._to_stderr("".join(traceback.format_exception(error)).rstrip())
        self._to_stderr(f"wuerstchen: error: {message}")
        fields: dict[str, Any] = {"event": "error", "exit_code": code, "type": type(error).__name__, "message": message}
        if isinstance(error, InvalidWorkflowError):
            fields |= {"error": error.error, "node_errors": error.node_errors}
        if isinstance(error, RunError):
            fields |= {"node": error.node_id, "class_type": error.class_type}
        self.event(**fields)
        return code

    def _to_stderr(self, text: str) -> None:
        with _without_bars():
            print(text, file=sys.stderr, flush=True)


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, RunError):
        return WEIGHTS_MISSING if isinstance(error.__cause__, WeightsMissingError) else FAILED
    if isinstance(error, UsageError):
        return BAD_USAGE
    if isinstance(error, BackendError):
        return BACKEND_UNAVAILABLE
    if isinstance(error, WorkflowError):
        return INVALID_WORKFLOW
    return WEIGHTS_MISSING if isinstance(error, WeightsMissingError) else FAILED


class _Handler(logging.StreamHandler):
    """Handler whose lines never touch a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with _without_bars():
            super().emit(record)


class _Formatter(logging.Formatter):
    """Format the message only, with the level before warnings and errors."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{level}{record.getMessage()}"


def _without_bars() -> AbstractContextManager[Any]:
    """Hide tqdm's bars while lines are printed. tqdm is imported only where there are any."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode()
