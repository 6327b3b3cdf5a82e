"""Write files that appear whole or not at all, so that a crash or another process never meets half of one."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced_whole(path: Path, *, durable: bool = False, scratch: Path | None = None) -> Generator[Path, None, None]:
    """Write a file in place of any older one. Makes the folders above it.

    Args:
        path: Final name of the file.
        durable: Wait until the content is on the disk before the older file goes.
        scratch: Folder of the unfinished file, on the same file system; None for the one of `path`.
    Yields:
        Path: Unfinished file to write. It gets its final name when the context ends, and is deleted after an error.
    Raises:
        OSError: The file cannot be written.
    """
    partial = _partial(path, scratch)
    try:
        yield partial
        if durable:
            with partial.open("rb+") as file:  # not "rb", which Windows refuses to sync
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def write_new(path: Path, data: bytes) -> bool:
    """Write a file under a name that is still free. Makes the folders above it.

    Returns:
        bool: False where a file of that name is there already; it is left as it is.
    Raises:
        OSError: The file cannot be written.
    """
    partial = _partial(path, None)
    try:
        with partial.open("xb") as file:
            file.write(data)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            partial.rename(path)
        return True
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path, scratch: Path | None) -> Path:
    folder = path.parent if scratch is None else scratch
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{path.name}.{os.urandom(8).hex()}.part"
