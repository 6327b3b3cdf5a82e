"""Read files of torch.save, which are pickles. Nothing in them is run, and they are looked through before torch reads.

torch itself refuses code. It does take a pickle that is unpacked to a hundred times its size, that computes for
minutes, or whose tuples hold one another so often that looking at one takes forever.
"""

import pickle
import struct
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path

import torch

from ..files.untrusted import open_file
from .instructions import check_instructions
from .refusals import damaged, refused
from .zips import MOST_BYTES, pickles_of_zip

ZIP, OLD_PICKLE = b"PK", b"\x80"
"""First bytes of a file of torch.save: a zip file, or in its older form a pickle by itself."""
_OLD_PICKLES = 5
"""Pickles of the older form: a number, a version, the system, the content, and the names of the storages."""


def read_pickle(path: Path, *, mapped: bool = True) -> object:
    """Return what torch.save has put into a file.

    Args:
        path: The file.
        mapped: Whether its tensors are mapped into memory where it is a zip file. It cannot be replaced meanwhile.
    Raises:
        CheckpointError: It is damaged, or holds code or more than tensors need.
        OSError: It cannot be read.
    """
    stat = path.stat()
    is_zip = _looked_through(path, stat.st_size, stat.st_mtime_ns)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_zip)
    except pickle.UnpicklingError as error:
        raise refused(path, error) from error
    except Exception as error:  # reading a damaged pickle may raise anything
        raise damaged(path, "PyTorch", error) from error


@lru_cache(maxsize=64)
def _looked_through(path: Path, size: int, changed: int) -> bool:
    """Check the pickles in a file, and return whether it is a zip file.

    A file that has not changed is looked through once: its tensors are mapped anew for every few of them.

    Args:
        path: The file.
        size: Its size, by which the answer is remembered.
        changed: Time of its last change, likewise.
    Raises:
        CheckpointError: It is damaged, or too large or too long in a way that no checkpoint is.
        OSError: It cannot be read.
    """
    with open_file(path) as file:
        is_zip = file.read(2) == ZIP
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd texts in damaged pickles
            for pickled in pickles_of_zip(path) if is_zip else [_start_of(path)]:
                check_instructions(path, pickled, 1 if is_zip else _OLD_PICKLES)
    except (ValueError, LookupError, OSError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise damaged(path, "PyTorch", error) from error
    return is_zip


def _start_of(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(MOST_BYTES)
