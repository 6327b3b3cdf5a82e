"""Cache of node results on disk: bounded in size, and safe to share between processes.

An entry is one safetensors file, named after its key. Values that are not tensors are JSON in its header, with a
checksum over everything; nothing in it is ever executed.
"""

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wuerstchen_core.files.places import cache_folder, expanded
from wuerstchen_core.files.untrusted import open_file, parse_json, read_json
from wuerstchen_core.files.writing import replaced_whole, write_new

from .calls import Outputs
from .digests import FileDigests
from .packing import Array, NotPlainError, pack, unpack

MAX_BYTES = 2 * 2**30
_SUFFIX, _PARTIAL = ".safetensors", ".part"
_STALE_SECONDS = 3600
_MOST_HEADER = 16 * 2**20
"""Most bytes of an entry that are no numbers of tensors."""
_DAMAGED = (OSError, RuntimeError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, BufferError)
"""Errors of an entry that is damaged. numpy lacks some of the dtypes that safetensors knows."""
_LIMIT = "limit.json"
"""File in the folder with the limit that a person has set, {"bytes": number}."""
_ABOUT = ("node", "type", "text", "workflow")
"""Names of what is told about an entry."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """Result in the cache.

    Attributes:
        key: Its cache key.
        size: Size in bytes.
        made: When it was stored, in seconds since 1970.
        about: What it is, for people: "node", "type", "text" and "workflow", as far as they are known.
    """

    key: str
    size: int
    made: float
    about: Mapping[str, str]


class DiskCache:
    """Folder of results.

    A cache that cannot be read or written never stops a run: it warns once, and the node runs.

    Args:
        folder: Folder of the entries, made when needed; None for `cache_folder()`.
        max_bytes: Limit for all entries together, in bytes; None for the one that `set_limit` has stored in the folder,
            else `MAX_BYTES`. The least recently used are dropped first.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int | None = None) -> None:
        self.folder = cache_folder() if folder is None else expanded(folder)
        self.max_bytes = self._stored_limit() if max_bytes is None else max_bytes
        self.digests = FileDigests(self.folder / "digests")
        self._unseen: int | None = None
        """Bytes written since the folder was last listed; None before the first time."""
        self._warned = False

    def __contains__(self, key: str) -> bool:
        return os.path.isfile(self._path(key))

    def get(self, key: str) -> Outputs | None:
        """Return the result of a key, with arrays in place of tensors, or None. A damaged entry is dropped."""
        path = self._path(key)
        try:
            if _stat_of(path).st_size > self.max_bytes:
                raise ValueError("it is larger than the whole cache")
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                header = file.metadata() or {}
            if header.get("sha256") != _checksum(arrays, header.get("values", "")):
                raise ValueError("its checksum is wrong")
            outputs = unpack(arrays, header["values"])
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            if not os.path.exists(path):  # another process dropped it between its being opened and read
                return None
            self._warn(f"The cached result {path} is damaged ({error}); it is dropped and made again.")
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # another user's entry, or a folder that is only to be read
            os.utime(path)
        return outputs

    def put(
        self, key: str, outputs: Outputs, about: Mapping[str, str] | None = None, *, replaces: bool = False
    ) -> bool:
        """Store a result, if it consists of tensors and plain values and is not larger than the whole cache.

        Args:
            key: Its cache key.
            outputs: The result.
            about: What it is, as in `Entry`.
            replaces: Whether it takes the place of an entry that is there.
        Returns:
            bool: Whether there is an entry of that key now.
        """
        try:
            arrays, values = pack(outputs)
        except NotPlainError:
            return False
        header = {"values": values, "sha256": _checksum(arrays, values), "made": str(time.time())}
        data = save(arrays, {**header, "about": json.dumps(dict(about or {}))})
        if len(data) > self.max_bytes or int.from_bytes(data[:8], "little") > _MOST_HEADER:
            return False
        try:
            if replaces:
                with replaced_whole(self._path(key)) as partial:
                    partial.write_bytes(data)
            else:
                write_new(self._path(key), data)
            self._make_room(len(data))
        except OSError as error:
            self._warn(
                f"Results cannot be kept in {self.folder} ({error.strerror or error}); they are made again next "
                "time. Choose another folder with --cache, or none with --no-cache."
            )
            return False
        return True

    def entry(self, key: str) -> Entry | None:
        """Return what is known of a key's result without reading it; None where there is none, or it is damaged."""
        path = self._path(key)
        with suppress(*_DAMAGED):
            stat = _stat_of(path)
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
            about = dict(parse_json(header.get("about", "{}")))
            made = float(header.get("made", stat.st_mtime))
            made = made if math.isfinite(made) else stat.st_mtime
            return Entry(key, stat.st_size, made, {name: str(about[name]) for name in _ABOUT if name in about})
        return None

    def entries(self) -> list[Entry]:
        """List all results, the newest first. Damaged ones are left out."""
        found = [self.entry(path.stem) for path in self._files()]
        return sorted((each for each in found if each is not None), key=lambda each: -each.made)

    def forget(self, key: str) -> bool:
        """Drop the result of a key, and return whether there was one. Raises: OSError."""
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            return False
        return True

    def clear(self) -> int:
        """Drop all results, damaged ones too, and return how many. Raises: OSError."""
        return sum(self.forget(path.stem) for path in self._files())

    def set_limit(self, max_bytes: int) -> None:
        """Store another limit in the folder, for every program, and drop what is beyond it. Raises: OSError."""
        with replaced_whole(self.folder / _LIMIT) as partial:
            partial.write_text(json.dumps({"bytes": max_bytes}), encoding="utf-8")
        self.max_bytes = max_bytes
        self._unseen = None
        self._make_room(0)

    def _stored_limit(self) -> int:
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            return min(max(0, int(read_json(self.folder / _LIMIT, 2**10)["bytes"])), 2**63)
        return MAX_BYTES

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*{_SUFFIX}") if path.is_symlink() or not path.is_dir())

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


def _stat_of(path: Path) -> os.stat_result:
    """Return the facts of an entry, which is a file with a header of a sensible size. Raises: OSError, ValueError."""
    with open_file(path) as file:
        header = int.from_bytes(file.read(8), "little")
        if header > _MOST_HEADER:
            raise ValueError(f"its header is said to have {header:,} bytes")
        return os.fstat(file.fileno())


def _checksum(arrays: dict[str, Array], values: str) -> str:
    digest = hashlib.sha256(values.encode())
    for name in sorted(arrays):
        digest.update(arrays[name].data)
    return digest.hexdigest()
