"""Download a preset in a process of its own, which can be stopped at any moment."""

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

from wuerstchen_core.checkpoints.presets import PRESETS
from wuerstchen_core.errors import WeightsMissingError

PACK = Path(__file__).resolve().parents[2]
"""Folder of this node pack."""
SECONDS = 0.5
"""Time between two looks at the files."""
_RUN = f"import sys; sys.path.insert(0, {str(PACK)!r}); from nodes.__main__ import main; sys.exit(main())"
"""The command `wuerstchen`, also in a Python that does not look for modules in the current folder."""
_PARTLY = "*.incomplete"
"""Files that are being downloaded, as huggingface_hub names them."""


def download(preset: str, folder: Path) -> Generator[tuple[int, int]]:
    """Download the missing parts of a preset. Closing the generator stops it and removes what is incomplete.

    Args:
        preset: Name of the preset.
        folder: Model folder.
    Yields:
        (int, int): Bytes that are there, and bytes to download in all; 0 while that is asked for.
    Raises:
        WeightsMissingError: A part could not be downloaded or written.
    """
    repos = {place.repo for place in PRESETS[preset].values() if place.repo}
    folders = [folder / repo for repo in repos]
    earlier = set(_partly(folders))
    command = [sys.executable, "-c", _RUN, "download", preset, "--to", str(folder), "--json"]
    total, start = 0, _size(folders)
    with TemporaryFile("w+", encoding="utf-8") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                if not total and (events := _events(told)):
                    total = events[0].get("bytes", 0)
                yield min(max(0, _size(folders) - start), total), total  # notes beside the files count, too
                with suppress(subprocess.TimeoutExpired):
                    process.wait(SECONDS)
            events = _events(told)
            if process.returncode != 0:
                message = events[-1].get("message") if events else None
                raise WeightsMissingError(message or f"The download of {preset} ended with an error.")
            total = events[0]["bytes"]
            yield total, total
        finally:
            process.kill()
            process.wait()
            for path in set(_partly(folders)) - earlier:
                path.unlink(missing_ok=True)


def _events(told: TextIO) -> list[dict[str, Any]]:
    """Return the whole lines of JSON in a file so far."""
    told.seek(0)
    return [json.loads(line) for line in told if line.endswith("\n")]


def _partly(folders: list[Path]) -> Iterator[Path]:
    return (path for folder in folders for path in folder.rglob(_PARTLY))


def _size(folders: list[Path]) -> int:
    """Return the bytes of all files in some folders. Files may come and go meanwhile."""
    total = 0
    for path in (path for folder in folders for path in folder.rglob("*")):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
