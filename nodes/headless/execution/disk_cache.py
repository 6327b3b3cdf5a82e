"""Cache of node results on disk: bounded in size, and safe to share between processes.

An entry is one safetensors file, named after its key. Values that are not tensors are JSON in its header, with a
checksum over everything; nothing in it is ever executed.
"""

import hashlib
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wuerstchen_core.files import write_new

from .calls import Outputs
from .digests import FileDigests
from .packing import Array, NotPlainError, pack, unpack

MAX_BYTES = 2 * 2**30
_SUFFIX, _PARTIAL = ".safetensors", ".part"
_STALE_SECONDS = 3600
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Return $WUERSTCHEN_CACHE, else `wuerstchen-results` in the user's cache folder."""
    chosen = os.environ.get("WUERSTCHEN_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wuerstchen-results"


class DiskCache:
    """Folder of results.

    A cache that cannot be read or written never stops a run: it warns once, and the node runs.

    Args:
        folder: Folder of the entries, made when needed; None for `default_folder()`.
        max_bytes: Limit for all entries together. The least recently used are dropped first.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.max_bytes = max_bytes
        self.digests = FileDigests(self.folder / "digests")
        self._unseen: int | None = None
        """Bytes written since the folder was last listed; None before the first time."""
        self._warned = False

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def get(self, key: str) -> Outputs | None:
        """Return the result of a key, with arrays in place of tensors, or None. A damaged entry is dropped."""
        path = self._path(key)
        try:
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                header = file.metadata() or {}
            if header.get("sha256") != _checksum(arrays, header.get("values", "")):
                raise ValueError("its checksum is wrong")
            outputs = unpack(arrays, header["values"])
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, SafetensorError, ValueError, KeyError, TypeError) as error:
            if not path.exists():  # another process dropped it between its being opened and read
                return None
            self._warn(f"The cached result {path} is damaged ({error}); it is dropped and made again.")
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # another user's entry, or a folder that is only to be read
            os.utime(path)
        return outputs

    def put(self, key: str, outputs: Outputs) -> None:
        """Store a result, if it consists of tensors and plain values and is not larger than the whole cache."""
        try:
            arrays, values = pack(outputs)
        except NotPlainError:
            return
        data = save(arrays, {"values": values, "sha256": _checksum(arrays, values)})
        if len(data) > self.max_bytes:
            return
        try:
            write_new(self._path(key), data)
            self._make_room(len(data))
        except OSError as error:
            self._warn(
                f"Results cannot be kept in {self.folder} ({error.strerror or error}); they are made again next "
                "time. Choose another folder with --cache, or none with --no-cache."
            )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self, written: int) -> None:
        """Drop the least recently used entries. Other processes write, too, so the folder is listed now and then."""
        if self._unseen is not None and self._unseen + written < self.max_bytes // 32:
            self._unseen += written
            return
        self._unseen = 0
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # dropped by another process just now
                stat = path.stat()
                if path.suffix == _SUFFIX:
                    entries.append((stat.st_mtime, stat.st_size, path))
                elif path.suffix == _PARTIAL and stat.st_mtime < time.time() - _STALE_SECONDS:
                    path.unlink()
        excess = sum(size for _, size, _ in entries) - self.max_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            with suppress(OSError):
                path.unlink()
            excess -= size

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("%s", text)


def _checksum(arrays: dict[str, Array], values: str) -> str:
    digest = hashlib.sha256(values.encode())
    for name in sorted(arrays):
        digest.update(arrays[name].data)
    return digest.hexdigest()
