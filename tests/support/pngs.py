"""PNG files made chunk by chunk, so that anything in them can lie."""

import struct
import zlib
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Header(NamedTuple):
    """Fields of IHDR, in the order of the file."""

    width: int = 2
    height: int = 2
    depth: int = 8
    colour: int = 2
    compression: int = 0
    filtering: int = 0
    interlacing: int = 0


def chunk(kind: bytes, data: bytes = b"", *, length: int | None = None, checksum: int | None = None) -> bytes:
    """A chunk, whose length and checksum may be wrong."""
    crc = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", crc)


def header(fields: Header | None = None) -> bytes:
    """The chunk IHDR."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *(fields or Header())))


def pixels(data: bytes | None = None) -> bytes:
    """The chunk IDAT; black for a picture of 2 x 2."""
    return chunk(b"IDAT", zlib.compress(b"\0" + bytes(6) + b"\0" + bytes(6)) if data is None else data)


def png(*chunks: bytes) -> bytes:
    """A small picture with further chunks after its header."""
    return SIGNATURE + header() + b"".join(chunks) + pixels() + chunk(b"IEND")


def text(key: bytes, value: bytes) -> bytes:
    """A text as it is."""
    return chunk(b"tEXt", key + b"\0" + value)


def compressed(key: bytes, value: bytes, *, method: int = 0) -> bytes:
    """A compressed text."""
    return chunk(b"zTXt", key + b"\0" + bytes([method]) + zlib.compress(value, 9))


def international(key: bytes, value: bytes, *, flag: int = 0, language: bytes = b"", translated: bytes = b"") -> bytes:
    """A text in UTF-8, compressed if `flag` is 1."""
    body = zlib.compress(value, 9) if flag == 1 else value
    return chunk(b"iTXt", key + b"\0" + bytes([flag, 0]) + language + b"\0" + translated + b"\0" + body)
