"""Files of one row, which a worker writes into a temporary folder and the batch moves into the output folder."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from wuerstchen_core.errors import WuerstchenError
from wuerstchen_core.files.untrusted import sha256_of

from ...output_files import OutputFiles
from ..tasks import RowFile

_TOO_LARGE = 2**28
"""Bytes that no picture has."""


class CannotWriteError(WuerstchenError):
    """The output folder cannot be written, so that no other row can be saved either."""


class RowFiles(OutputFiles):
    """Files that one row saves, numbered in the order of saving. Names in the workflow do not count.

    Attributes:
        saved: Files so far.

    Args:
        folder: Temporary folder of this row, which is made here.
    Raises:
        CannotWriteError: The folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.saved: list[RowFile] = []
        try:
            folder.mkdir()  # not its parents: if they are missing, the output folder was taken away
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def save(self, data: bytes, prefix: str, *, node_id: str = "", suffix: str = ".png") -> Path:
        """Write the next file, wait until it is on the disk, and return its path.

        Args:
            data: Content of the file.
            prefix: Not used.
            node_id: Not used.
            suffix: Suffix of the file.
        Raises:
            CannotWriteError: The file cannot be written.
        """
        path = self.folder / f"{len(self.saved) + 1}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(path, error) from error
        relative = path.relative_to(self.folder.parent).as_posix()
        self.saved.append(RowFile(relative, suffix, hashlib.sha256(data).hexdigest()))
        return path


def publish(source: Path, target: Path, folder: Path, ours: Collection[str]) -> None:
    """Move a file to its name. Does nothing if it has been moved already.

    Args:
        source: File in a row's temporary folder.
        target: Name of the file in the output folder.
        folder: Output folder; `target` must stay inside it, also behind symbolic links.
        ours: Digests of the files of that name that may be replaced.
    Raises:
        FileExistsError: Another file has the name, or a link on the way leads out of the folder.
        OSError: The file cannot be written.
    """
    for path in (source, target):  # before folders are made, which may be behind a link
        if not is_inside(path, folder):
            raise FileExistsError(f"{path.parent} is a link that leads out of {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists() and target.exists():
        return
    if is_file(target, ours):
        os.replace(source, target)
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise _not_ours(target) from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise _not_ours(target) from None
        source.rename(target)
    with contextlib.suppress(FileNotFoundError):
        source.unlink()


def linked(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links. Makes the folders above it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with target.open("xb") as file:
            file.write(source.read_bytes())
            file.flush()
            os.fsync(file.fileno())


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether a file is in a folder, also behind symbolic links on the way. Neither has to be there."""
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))


def is_regular(path: Path) -> bool:
    """Return whether there is a file, and not a link to one. The batch makes no links, so those are not its own."""
    return path.is_file() and not path.is_symlink()


def is_file(path: Path, digests: Collection[str]) -> bool:
    """Return whether there is a file with one of the SHA-256 digests."""
    if not digests or not is_regular(path):
        return False
    facts = path.stat()
    return facts.st_size < _TOO_LARGE and _digest(path, facts.st_ino, facts.st_size, facts.st_mtime_ns) in digests


@functools.lru_cache(10_000)
def _digest(path: Path, *_as_it_was: int) -> str:
    """Return the SHA-256 of a file. A journal may name one file many times, which is read once."""
    return sha256_of(path)


def _not_ours(target: Path) -> FileExistsError:
    return FileExistsError(f"there is another file {target} already; it was not touched")


def _cannot_write(path: Path, error: OSError) -> CannotWriteError:
    return CannotWriteError(f"Cannot write {path}: {error.strerror or error}")
