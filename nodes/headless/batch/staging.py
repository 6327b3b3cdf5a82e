"""Files between a worker and the output folder: written whole into a folder of their own, then moved to their names."""

import contextlib
import hashlib
import os
from pathlib import Path

from wuerstchen_core.errors import WuerstchenError

from ..output_files import OutputFiles
from .tasks import StagedFile


class CannotWriteError(WuerstchenError):
    """The output folder takes no more files; no other row would fare better."""


class StagedFiles(OutputFiles):
    """What a row saves, numbered in the order of saving, whatever the workflow calls it.

    Args:
        folder: for this row alone; made here.
    Raises:
        CannotWriteError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.saved: list[StagedFile] = []
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def save(self, data: bytes, prefix: str, *, node_id: str = "", suffix: str = ".png") -> Path:
        """Write the next file; it is on the disk when this returns. Raises: CannotWriteError."""
        path = self.folder / f"{len(self.saved) + 1}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(path, error) from error
        relative = path.relative_to(self.folder.parent).as_posix()
        self.saved.append(StagedFile(relative, suffix, hashlib.sha256(data).hexdigest()))
        return path


def publish(staged: Path, target: Path, folder: Path) -> None:
    """Give a staged file its name; nothing if that was done before.

    Args:
        folder: which it may not leave, not by a link on the way either.
    Raises:
        FileExistsError: another file has the name, or the name leads out of the folder.
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise FileExistsError(f"{target.parent} is a link that leads out of {folder}")
    if not staged.exists() and target.exists():
        return
    try:
        os.link(staged, target)
    except FileExistsError:
        if not _same_content(staged, target):
            raise FileExistsError(f"there is another file {target} already; it was not touched") from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(f"there is another file {target} already; it was not touched") from None
        staged.rename(target)
    with contextlib.suppress(FileNotFoundError):
        staged.unlink()


def _same_content(one: Path, other: Path) -> bool:
    return hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def _cannot_write(path: Path, error: OSError) -> CannotWriteError:
    return CannotWriteError(f"Cannot write {path}: {error.strerror or error}")
