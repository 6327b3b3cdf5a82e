"""What a file holds, as a digest; a big file is read once, and again only when its size or time has changed."""

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

_SMALL = 2**18
"""A file below this many bytes is read faster than its digest is looked up."""


class FileDigests:
    """Digests of files, kept in a folder.

    Args:
        folder: where a small file for each big one says its digest; made when needed. Where it cannot be written,
            files are simply read every time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, path: Path) -> str:
        """The SHA-256 of a file's content. Raises: OSError."""
        stat = path.stat()
        if stat.st_size < _SMALL:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        mark = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
        note = self.folder / f"{hashlib.sha256(mark[0].encode()).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(note.read_text(encoding="utf-8"))
            if known["mark"] == mark:
                return str(known["sha256"])
        digest = _read(path)
        with suppress(OSError):
            _replace(note, json.dumps({"mark": mark, "sha256": digest}))
        return digest


def _read(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole, over an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
