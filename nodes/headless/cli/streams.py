"""Standard streams of the command, which may be closed, full, or of an encoding that lacks most characters."""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import BinaryIO

_ESCAPED = "wuerstchen_escaped"
"""Error handler: bytes of a file name that are no UTF-8 are printed, and what the encoding lacks is escaped."""


class Forgiving(io.TextIOWrapper):
    """Stream whose errors change nothing: a warning that cannot be shown must not end a run."""

    def __init__(self, binary: BinaryIO, encoding: str) -> None:
        super().__init__(binary, encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare() -> None:
    """Open the streams that are closed, and let any text be printed."""
    _open_closed()
    codecs.register_error(_ESCAPED, _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ESCAPED)
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Forgiving(sys.stderr.buffer, sys.stderr.encoding)
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def _open_closed() -> None:
    """Let streams that are closed lead to nowhere. A file that is opened later would get their number otherwise."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - open until the program ends
            os.set_inheritable(stream.fileno(), True)  # for the workers of a batch
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
