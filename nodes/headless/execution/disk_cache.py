"""Results of nodes on disk, under the signature of what they depend on: bounded, and safe under many processes.

An entry is one safetensors file that appears complete or not at all. What it holds beside tensors is JSON in its
header, with a checksum; nothing in it is ever executed.
"""

import hashlib
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..output_files import write_new
from .calls import Outputs
from .digests import FileDigests
from .packing import Array, NotPlainError, pack, unpack

MAX_BYTES = 2 * 2**30
_SUFFIX, _PARTIAL = ".safetensors", ".part"
_STALE_SECONDS = 3600
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """$WUERSTCHEN_CACHE, else `wuerstchen-results` in the user's cache folder."""
    chosen = os.environ.get("WUERSTCHEN_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wuerstchen-results"


class DiskCache:
    """A folder of results.

    Args:
        folder: made where it is not there; None for the user's own (see `default_folder`).
        max_bytes: what all entries may take; those that were not used for longest are dropped first.

    A cache that cannot be read or written never stops a run: it warns once, and the node runs.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.max_bytes = max_bytes
        self.digests = FileDigests(self.folder / "digests")
        self._unseen: int | None = None
        """Bytes written since the folder was last looked through; None before the first time."""
        self._warned = False

    def __contains__(self, signature: str) -> bool:
        return self._path(signature).is_file()

    def get(self, signature: str) -> Outputs | None:
        """The result of that signature, with arrays for its tensors; or None. A damaged entry is dropped."""
        path = self._path(signature)
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

    def put(self, signature: str, outputs: Outputs) -> None:
        """Keep a result, if it is made of tensors and plain values and there is room for it."""
        try:
            arrays, values = pack(outputs)
        except NotPlainError:
            return
        data = save(arrays, {"values": values, "sha256": _checksum(arrays, values)})
        if len(data) > self.max_bytes:
            return
        try:
            write_new(self._path(signature), data)
            self._make_room(len(data))
        except OSError as error:
            self._warn(
                f"Results cannot be kept in {self.folder} ({error.strerror or error}); they are made again next "
                "time. Choose another folder with --cache, or none with --no-cache."
            )

    def _path(self, signature: str) -> Path:
        return self.folder / f"{signature}{_SUFFIX}"

    def _make_room(self, written: int) -> None:
        """Drop what was not used for longest. The folder is looked through now and then: others write to it, too."""
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
