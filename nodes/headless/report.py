"""Output of the command: results on stdout, everything else on stderr."""

import json
import logging
import os
import re
import sys
import traceback
import warnings
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any

from wuerstchen_core.errors import WeightsMissingError, WorkflowError, WuerstchenError

from .errors import BackendError, InvalidWorkflowError, OutputError, RunError, UsageError

FAILED, BAD_USAGE, INVALID_WORKFLOW, WEIGHTS_MISSING, PARTLY_FAILED, BACKEND_UNAVAILABLE = 1, 2, 3, 4, 5, 6
INTERRUPTED = 130
LONGEST_LINE = 1000
"""Most characters of a line on stderr."""
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LOGGERS = ("wuerstchen_core", "wuerstchen_nodes")
"""Loggers of this project."""


class Report:
    """Prints the output of one command.

    As a context, it shows the log of the core and the nodes, and Python's warnings, on stderr. Each warning is shown
    once, in one line.

    Args:
        as_json: Print one JSON object a line on stdout instead of plain lines.
        quiet: Print only warnings and errors on stderr.
        debug: Print errors with their traceback.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.debug = debug
        self._handler = _Handler(self)
        self._warned: set[str] = set()
        self._restored = ExitStack()

    def __enter__(self) -> "Report":
        self._restored.enter_context(warnings.catch_warnings())
        warnings.showwarning = lambda message, *_: self.warn(str(message))
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self._handler)
            logger.setLevel(logging.DEBUG if self.debug else logging.WARNING if self.quiet else logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
            logging.getLogger(name).setLevel(logging.NOTSET)
        self._restored.close()

    def result(self, plain: str, **fields: Any) -> None:
        """Print one line on stdout: the plain text, or the fields as JSON."""
        line = json.dumps(fields) if self.as_json else _harmless(plain) if sys.stdout.isatty() else plain
        with _without_bars():
            write_out(f"{line}\n")

    def event(self, **fields: Any) -> None:
        """Print the fields as a line of JSON on stdout; nothing without --json."""
        if self.as_json:
            self.result("", **fields)

    def note(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            self._to_stderr(text)

    def warn(self, text: str) -> None:
        """Print the first line of a warning on stderr, also if quiet. Each warning is printed once."""
        text = text.strip().partition("\n")[0]
        if text not in self._warned:
            self._warned.add(text)
            self._to_stderr(f"warning: {text}")

    def interrupted(self) -> int:
        """Report that the user interrupted the command, and return the exit code."""
        self._to_stderr("wuerstchen: interrupted")
        self._last_event(event="error", exit_code=INTERRUPTED, type="interrupted", message="interrupted")
        return INTERRUPTED

    def failed(self, error: Exception) -> int:
        """Report an error and return the exit code."""
        code = exit_code(error)
        message = _shortened(str(error))
        if not isinstance(error, WuerstchenError):
            message = f"unexpected {type(error).__name__}: {error}. Run again with --debug to see where."
        if self.debug:
            self._to_stderr("".join(traceback.format_exception(error)).rstrip())
        first, *others = message.splitlines() or [""]
        shown = f"{first} (and {len(others)} more)" if self.quiet and others else message
        self._to_stderr(f"wuerstchen: error: {shown}")
        fields: dict[str, Any] = {"event": "error", "exit_code": code, "type": type(error).__name__, "message": message}
        if isinstance(error, InvalidWorkflowError):
            fields |= {"error": error.error, "node_errors": error.node_errors}
        if isinstance(error, RunError):
            fields |= {"node": error.node_id, "class_type": error.class_type}
        self._last_event(**fields)
        return code

    def _last_event(self, **fields: Any) -> None:
        with suppress(OutputError, BrokenPipeError):  # stderr and the exit code say why the command ends
            self.event(**fields)

    def _to_stderr(self, text: str) -> None:
        with _without_bars():
            print(_harmless(_shortened(text)), file=sys.stderr, flush=True)


def write_out(content: str | bytes = "") -> None:
    """Write to stdout, with all that waits there. After an error nothing more is written.

    Raises:
        OutputError: It cannot be written.
        BrokenPipeError: Its reader has gone.
    """
    try:
        if isinstance(content, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
        elif content:
            sys.stdout.write(content)
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(
            f"The output cannot be written: {error.strerror or error}. Make room, or send it somewhere else."
        ) from error


def _discard_output() -> None:
    """Lead stdout to nowhere, or Python would try again, and fail, when it ends."""
    with suppress(OSError):
        number = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
        sys.stdout.flush()


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


class _Handler(logging.Handler):
    """Handler that prints the message of each record, without its time, level and place."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._report.warn(record.getMessage())
        else:
            self._report.note(record.getMessage())


def _shortened(text: str) -> str:
    """Cut the middle out of lines that are too long to read, such as one with a value of a megabyte."""
    if len(text) <= LONGEST_LINE:
        return text
    lines = text.split("\n")
    half = LONGEST_LINE // 2
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}" for line in lines)


def _harmless(text: str) -> str:
    """Replace characters that would command the terminal: titles and texts of a workflow may hold any."""
    return _COMMANDS.sub("\ufffd", text)


def size_text(size: float) -> str:
    """Return a number of bytes for people, such as "4.0 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _without_bars() -> AbstractContextManager[Any]:
    """Hide tqdm's bars while lines are printed. tqdm is imported only where there are any."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode()
