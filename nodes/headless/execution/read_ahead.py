"""Reading files into the system's cache before they are needed, while the processor is busy with something else."""

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

_SHARE = 0.5
"""Share of this machine's memory that is read ahead at most."""
_log = logging.getLogger(__name__)


def read_ahead(paths: Iterable[Path]) -> threading.Thread | None:
    """Ask the system to read files, as many as fit into half of the memory, without waiting for them.

    Args:
        paths: Files in the order in which they are needed.
    Returns:
        threading.Thread | None: Thread that asks; None where the system cannot be asked, as outside of Linux.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    thread = threading.Thread(target=_ask, args=(list(paths),), daemon=True)
    thread.start()
    return thread


def _ask(paths: list[Path]) -> None:
    room = _SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in paths:
        try:
            with path.open("rb") as file:
                room -= path.stat().st_size
                if room < 0:
                    return
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError as error:  # loading it will say so
            _log.debug("%s is not read ahead: %s", path, error)
