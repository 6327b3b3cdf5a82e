"""SHA-256 digests of files. A large file is read once, and again only when its size or time has changed."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from wuerstchen_core.files.untrusted import read_json, sha256_of
from wuerstchen_core.files.writing import replaced_whole

_SMALL = 2**18
"""Size in bytes below which reading a file is faster than looking up its digest."""


class FileDigests:
    """Digests of files, kept in a folder.

    Args:
        folder: Folder of a small note with the digest of each large file; made when needed. Where it cannot be
            written, files are read every time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, path: Path) -> str:
        """Return the SHA-256 of a file's content. Raises: OSError."""
        stat = path.stat()
        if stat.st_size < _SMALL:
            return sha256_of(path)
        mark = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
        note = self.folder / f"{hashlib.sha256(mark[0].encode()).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = read_json(note, _SMALL)
            if known["mark"] == mark:
                return str(known["sha256"])
        digest = sha256_of(path)
        with suppress(OSError), replaced_whole(note) as partial:
            partial.write_text(json.dumps({"mark": mark, "sha256": digest}), encoding="utf-8")
        return digest
