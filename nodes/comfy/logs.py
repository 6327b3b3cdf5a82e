"""ComfyUI's log, without a message that would mislead."""

import logging
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def without(message: str) -> Generator[None]:
    """Keep records that contain `message` out of the log, whichever logger they come from.

    Filters of a logger do not see the records of the loggers below it, so the root logger's handlers get the filter.
    """

    def keep(record: logging.LogRecord) -> bool:
        return message not in record.getMessage()

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(keep)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)
