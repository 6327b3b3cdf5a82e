"""Folders of this program in the user's cache folder."""

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in place of "~"; as it is where that is no name of a user."""
    try:
        return Path(os.path.expanduser(path))  # not Path.expanduser, which raises an error
    except ValueError:  # a name that no user can have
        return Path(path)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 where it has gone, or is a link to nothing."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def cache_folder() -> Path:
    """Return $WUERSTCHEN_CACHE, else `wuerstchen-results` in the user's cache folder."""
    chosen = os.environ.get("WUERSTCHEN_CACHE")
    if chosen:
        return expanded(chosen)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "wuerstchen-results"


def int8_folder() -> Path:
    """Return the folder in `cache_folder` with networks rounded to eight bits; see `checkpoints.int8_files`."""
    return cache_folder() / "int8"
