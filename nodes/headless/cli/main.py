"""Entry point of the command `wuerstchen`: parse the command line, run the verb, return the exit code.

Most is imported where an interruption is expected, so that one in the first moments is reported like any other.
"""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..execution.executor import Executor
    from ..report import Report

_OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Threshold of the garbage collector. With the default of 700, collections take a tenth of a short run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        from . import streams

        streams.prepare()
        from ..report import Report

        return _reported(Report(), lambda: _command(arguments))
    except KeyboardInterrupt:
        from ..report import Report

        return Report().interrupted()


def run_warm(arguments: list[str], executor: "Executor") -> int:
    """Run a command of another process, which a warm server has taken, and return its exit code."""
    from .parser import build_parser

    options = build_parser().read(arguments)
    options.executor = executor
    return _run(options)


def _command(arguments: list[str]) -> int:
    if arguments[:1] == ["_complete"]:
        return _complete(*arguments[1:])
    from ..report import write_out
    from . import warm
    from .parser import build_parser

    parser = build_parser()
    options = parser.read(arguments)
    if options.version:
        from importlib.metadata import version

        write_out(version("wuerstchen") + "\n")
        return 0
    if options.verb is None:
        parser.error("what to do is missing; expected a verb such as run or generate")
    if options.verb in warm.VERBS and options.threads is None and not options.no_server:
        code = warm.hand_over(arguments)
        if code is not None:
            return code
    from ..threads import share_processor

    share_processor(getattr(options, "threads", None))
    options.run_warm = run_warm  # for `serve`
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    from ..report import Report

    def verb() -> int:
        _check_folder()
        from . import verbs

        return verbs.VERBS[options.verb](options, report)

    with Report(as_json=options.json, quiet=options.quiet, debug=options.debug) as report:
        return _reported(report, verb)


def _reported(report: "Report", act: Callable[[], int]) -> int:
    """Return the exit code of a part of the command, and report its errors."""
    from ..report import FAILED, write_out

    try:
        try:
            return act()
        finally:
            write_out()
    except BrokenPipeError:  # the reader of our output has gone
        return FAILED
    except KeyboardInterrupt:
        return report.interrupted()
    except Exception as error:  # the last resort: one line instead of a traceback
        return report.failed(error)


def _check_folder() -> None:
    from ..errors import UsageError

    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"The current folder cannot be used: {error.strerror or error}. It may have been deleted; change to "
            "another one."
        ) from error


def _complete(kind: str = "", word: str = "", *typed: str) -> int:
    """Print the words that complete a command line, for the scripts of `wuerstchen completion`."""
    from ..report import write_out
    from .candidates import candidates

    write_out("".join(f"{each}\n" for each in candidates(kind, word, typed)))
    return 0
