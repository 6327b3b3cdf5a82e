"""Find the pickles in a zip file of torch.save, and refuse a zip file that two readers may understand differently.

torch looks names up without regard to case, and trusts the places that the end of the file gives. Python's zipfile
compares case, may read names from elsewhere, and looks for the list of entries right before the end.
"""

import os
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from ..files.untrusted import open_file, size_text
from .refusals import refuse

MOST_BYTES = 16 * 2**20
"""Largest pickle, without the numbers of the tensors. That of the published Stage C has 200 KB."""
_MOST_ENTRIES = 100_000
"""Most entries of a zip file, one for each tensor."""
_MOST_LISTED = 16 * 2**20
"""Largest list of the entries, in bytes."""
_END, _LOCATOR, _END_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
"""Records at the end of a zip file; the last two are there in the form for large files, which torch writes."""
_PICKLE = ".pkl"


def pickles_of_zip(path: Path) -> list[bytes]:
    """Return the pickles in a zip file, which torch.save does not compress.

    Raises:
        CheckpointError: It has too many entries, or one that torch.save does not write.
        OSError, ValueError, struct.error, zipfile.BadZipFile: It is damaged, or cannot be read.
    """
    found: list[bytes] = []
    with open_file(path) as file:
        listed = _check_end(path, file)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) != listed:
                raise ValueError(f"it has {len(entries):,} entries and is said to have {listed:,}")
            _check_names(path, entries)
            for entry in entries:
                if entry.filename.endswith(_PICKLE):
                    if entry.file_size > MOST_BYTES:
                        refuse(path, f"its entry {entry.filename[:100]!r} is larger than {size_text(MOST_BYTES)}")
                    # Not `archive.read`, which refuses the files that torch.save writes without checksums.
                    file.seek(entry.header_offset + 26)
                    name, more = struct.unpack("<HH", file.read(4))
                    file.seek(name + more, os.SEEK_CUR)
                    found.append(file.read(entry.file_size))
    return found


def _check_end(path: Path, file: BinaryIO) -> int:
    """Check the records at the end of a zip file before its entries are listed, and return how many there are.

    Raises:
        CheckpointError: There are too many.
        ValueError, OSError, struct.error: The list of the entries is not right before the end.
    """
    end = file.seek(-_END.size, os.SEEK_END)
    mark, _, _, _, entries, size, start, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or comment:
        raise ValueError("it does not end as a zip file does")
    if end >= _LOCATOR.size + _END_64.size:
        file.seek(end - _LOCATOR.size)
        locator, _, there, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if locator == b"PK\6\7":
            end -= _LOCATOR.size + _END_64.size
            file.seek(end)
            mark, _, _, _, _, _, _, entries, size, start = _END_64.unpack(file.read(_END_64.size))
            if mark != b"PK\6\6" or there != end:
                raise ValueError("its end is said to be elsewhere")
    if entries > _MOST_ENTRIES:
        refuse(path, f"it has {entries:,} entries; expected at most {_MOST_ENTRIES:,}")
    if size > _MOST_LISTED:
        refuse(path, f"the list of its entries has {size:,} bytes; expected at most {size_text(_MOST_LISTED)}")
    if start + size != end:
        raise ValueError("the list of its entries is said to be elsewhere")
    file.seek(0)
    return entries


def _check_names(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Check that every reader finds the same entries under the same names. Raises: CheckpointError."""
    names: set[str] = set()
    for entry in entries:
        shown = repr(entry.orig_filename[:100])
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            refuse(path, f"its entry {shown} is compressed, which torch.save does not do")
        folded = entry.orig_filename.casefold()
        if entry.filename != entry.orig_filename or folded.endswith(_PICKLE) != entry.filename.endswith(_PICKLE):
            refuse(path, f"the name of its entry {shown} can be read in two ways")
        if folded in names:
            refuse(path, f"it has the entry {shown} twice")
        names.add(folded)
