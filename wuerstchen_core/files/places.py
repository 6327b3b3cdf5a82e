"""Folders of this program in the user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $WUERSTCHEN_CACHE, else `wuerstchen-results` in the user's cache folder."""
    chosen = os.environ.get("WUERSTCHEN_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wuerstchen-results"


def int8_folder() -> Path:
    """Return the folder in `cache_folder` with networks rounded to eight bits; see `checkpoints.int8_files`."""
    return cache_folder() / "int8"
