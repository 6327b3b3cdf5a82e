"""Counts of the parts of a PNG or JPEG, before Pillow reads them: it takes as many as there are, each at some cost."""

import re
import struct
from typing import BinaryIO

from .untrusted import MAX_TEXT_BYTES, size_text

MAX_CHUNKS = 200_000
"""Most chunks of a PNG. The largest picture in chunks of 8 KiB, as libpng writes them, has 44,000."""
MAX_COMPRESSED = 256
"""Most chunks of a PNG that may be compressed texts."""
MAX_SCANS = 100
"""Most scans of a JPEG, each of which goes over all its pixels. Progressive ones have about 10."""
MAX_SEGMENTS = 300
"""Most segments of a JPEG. A colour profile takes up to 255 of them, a depth map about 100."""
MAX_JUNK = 2**20
"""Most bytes of a JPEG between its segments, before the first scan. Pillow skips them one by one."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PIXELS = frozenset({b"IDAT", b"fdAT"})
_COMPRESSED = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_START_OF_SCAN, _END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff([\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe])")
"""Markers of segments and the end. The others have no length, or end the reading."""
_BLOCK = 2**16


def check_headers(file: BinaryIO) -> int:
    """Check the number of parts of a file, which is left at its beginning; of other files than PNGs and JPEGs nothing.

    Returns:
        int: Number of chunks that may be compressed.
    Raises:
        ValueError: There are too many, which the text says.
    """
    start = file.read(len(_PNG))
    compressed = 0
    if start == _PNG:
        compressed = _check_png(file)
    elif start.startswith(_JPEG):
        _check_jpeg(file)
    file.seek(0)
    return compressed


def _check_png(file: BinaryIO) -> int:
    chunks = compressed = profiles = beside = 0
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        chunks += 1
        profiles += kind == b"iCCP"
        compressed += kind in _COMPRESSED
        beside += 0 if kind in _PIXELS else length
        _check_count(chunks, MAX_CHUNKS, "chunks")
        _check_count(profiles, 1, "colour profile")
        _check_count(compressed, MAX_COMPRESSED, "compressed texts")
        if beside > MAX_TEXT_BYTES:
            raise ValueError(f"it has more than {size_text(MAX_TEXT_BYTES)} beside its pixels")
        if kind == b"IEND":
            break
        file.seek(length + 4, 1)  # its data and its checksum
    return compressed


def _check_jpeg(file: BinaryIO) -> None:
    segments = scans = junk = 0
    marker, end = -1, file.seek(2)
    while marker and not (scans and marker == _END):
        marker = _next_marker(file)
        junk += 0 if scans else file.tell() - 2 - end
        segments += 1
        scans += marker == _START_OF_SCAN
        _check_count(segments, MAX_SEGMENTS, "segments")
        _check_count(scans, MAX_SCANS, "scans")
        if junk > MAX_JUNK:
            raise ValueError(f"it has more than {size_text(MAX_JUNK)} between its segments")
        end = file.tell() if marker == _END else file.seek(max(0, int.from_bytes(file.read(2), "big") - 2), 1)


def _next_marker(file: BinaryIO) -> int:
    """Return the next marker, after which the file is left; 0 at the end of the file."""
    last = b""
    while block := file.read(_BLOCK):
        found = _MARKER.search(last + block)
        if found:
            file.seek(found.end() - len(last) - len(block), 1)
            return found[1][0]
        last = block[-1:]  # a marker may begin in one block and end in the next
    return 0


def _check_count(count: int, most: int, things: str) -> None:
    if count > most:
        raise ValueError(f"it has more than {most:,} {things}")
