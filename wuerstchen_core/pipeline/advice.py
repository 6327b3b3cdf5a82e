"""Warnings that point to the line of the user's own code, however deep in this package they are raised."""

import inspect
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])


def warn(text: str) -> None:
    """Warn the caller of this package.

    Args:
        text: What may not come out as asked for, and what to do.
    """
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
