"""Read files of torch.save, which are pickles. Nothing in them is run, and they are looked through before torch reads.

torch itself refuses what a tensor does not need. It does take a pickle that is unpacked to a hundred times its size, or
whose tuples hold one another so often that looking at one takes forever.
"""

import io
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import torch

from ..errors import CheckpointError
from ..files.untrusted import open_file, size_text

ZIP, OLD_PICKLE = b"PK", b"\x80"
"""First bytes of a file of torch.save: a zip file, or in its older form a pickle by itself."""
MOST_BYTES = 16 * 2**20
"""Largest pickle, without the numbers of the tensors. That of the published Stage C has 200 KB."""
_MOST_OPCODES = 300_000
_MOST_IN_TUPLES = 100_000
"""Most values in a tuple, those in its own tuples included."""
_MOST_ENTRIES = 100_000
"""Most entries of a zip file, one for each tensor."""
_OLD_PICKLES = 5
"""Pickles of the older form: a number, a version, the system, the content, and the names of the storages."""


def read_pickle(path: Path) -> object:
    """Return what torch.save has put into a file. Tensors are mapped into memory where the file is a zip file.

    Raises:
        CheckpointError: It is damaged, or holds code or more than tensors need.
        OSError: It cannot be read.
    """
    stat = path.stat()
    is_zip = _looked_through(path, stat.st_size, stat.st_mtime_ns)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
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
            for pickled in _pickles_of_zip(path) if is_zip else [_start_of(path)]:
                _check(path, pickled, 1 if is_zip else _OLD_PICKLES)
    except (ValueError, LookupError, OSError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise damaged(path, "PyTorch", error) from error
    return is_zip


def damaged(path: Path, kind: str, error: Exception) -> CheckpointError:
    """Return the error of a file that the library for its kind cannot read."""
    reason = re.split(r"\n|\. ", str(error).strip())[0][:300] or type(error).__name__
    return CheckpointError(f"{path} is a damaged or incomplete {kind} file ({reason}). Download it again.")


def _start_of(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(MOST_BYTES)


def _pickles_of_zip(path: Path) -> list[bytes]:
    """Return the pickles in a zip file, which torch.save does not compress."""
    found: list[bytes] = []
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            _refuse(path, f"it has {len(entries):,} entries; expected at most {_MOST_ENTRIES:,}")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                _refuse(path, f"its entry {entry.filename[:100]!r} is compressed, which torch.save does not do")
            if entry.filename.endswith(".pkl"):
                if entry.file_size > MOST_BYTES:
                    _refuse(path, f"its entry {entry.filename[:100]!r} is larger than {size_text(MOST_BYTES)}")
                # Not `archive.read`, which refuses the files that torch.save writes without checksums.
                file.seek(entry.header_offset + 26)
                name, more = struct.unpack("<HH", file.read(4))
                file.seek(name + more, os.SEEK_CUR)
                found.append(file.read(entry.file_size))
    return found


def _check(path: Path, data: bytes, count: int) -> None:
    """Check the first pickles in some bytes.

    Raises:
        CheckpointError: One is too long, or its tuples are too large.
        ValueError, IndexError: One is damaged.
    """
    stream = io.BytesIO(data)
    opcodes = 0
    for _ in range(count):
        stack: list[int] = []
        marks: list[int] = []
        memo: dict[Any, int] = {}
        for opcode, argument, _place in pickletools.genops(stream):
            opcodes += 1
            if opcodes > _MOST_OPCODES:
                _refuse(path, f"its pickle has more than {_MOST_OPCODES:,} instructions")
            _step(opcode, argument, stack, marks, memo)
            if stack and stack[-1] > _MOST_IN_TUPLES:
                _refuse(path, f"a tuple in it holds more than {_MOST_IN_TUPLES:,} values")
        if stream.tell() == len(data):
            break


def _step(opcode: Any, argument: Any, stack: list[int], marks: list[int], memo: dict[Any, int]) -> None:
    """Follow one instruction of a pickle.

    Args:
        opcode: The instruction, as pickletools describes it.
        argument: Its argument.
        stack: Number of values in each object on the stack: 1, more for a tuple. Changed, like the others.
        marks: Lengths of the stack at which marks are.
        memo: The same number for each object that the pickle has put aside.
    """
    name = opcode.name
    if name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif name == "DUP":
        stack.append(stack[-1])
    elif name == "MARK":
        marks.append(len(stack))
    else:
        before = opcode.stack_before
        start = marks.pop() if pickletools.markobject in before else len(stack) - len(before)
        if name in ("SETITEMS", "APPENDS", "ADDITEMS"):
            start -= 1
        if start < 0:
            raise IndexError("its pickle takes more from the stack than there is")
        taken = stack[start:]
        del stack[start:]
        stack += [1 + sum(taken) if name.startswith("TUPLE") else 1 for _ in opcode.stack_after]


def _refuse(path: Path, reason: str) -> NoReturn:
    raise CheckpointError(
        f"{path} was refused: {reason}. Expected a dictionary of tensors as torch.save writes it; ask whoever made it "
        "for a .safetensors file."
    )


def _refused(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """Return the error for a pickle that torch refused, with the name of the object it would have to run."""
    named = re.search(r"GLOBAL ([\w.]*\w)\s", str(error))
    if named is None:
        told = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        reason = told[1].strip()[:300] if told else type(error).__name__
        return CheckpointError(
            f"{path} was refused: it is damaged or holds more than tensors ({reason}). "
            "Download it again, or ask whoever made it for a .safetensors file."
        )
    return CheckpointError(
        f"{path} was refused: it contains code or Python objects ({named[1][:200]}), which loading would run. "
        "Expected tensors only. If you trust whoever made it, ask them for a .safetensors file."
    )
