"""Sizes of the pages of a Parquet file, read from their own headers.

The description at the end of a file names sizes, too, but readers do not keep to it: a few bytes may unpack to
gigabytes. The headers are in Thrift's compact protocol.
"""

from collections.abc import Iterator
from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_NUMBERS = (4, 5, 6)
_DEEPEST = 10
_UNPACKED, _PACKED = 2, 3
"""Fields of a page header: sizes of the page in bytes."""
_HEADERS_OF_DATA = {5: 2, 8: 4}
"""Fields of a page header with the header of a data page of either version, and the field of its encoding there."""
DELTA_BYTE_ARRAY = 7
"""Encoding in which each text names how much of the one before it begins with."""


def pages(data: bytes, start: int, size: int) -> Iterator[tuple[int, int | None]]:
    """Yield the unpacked size of each page of a column, and its encoding; None for a page that is not of data.

    Args:
        data: The file.
        start: First byte of the column's pages.
        size: Number of their bytes.
    Raises:
        ValueError: A header is damaged.
    """
    position, end = start, start + size
    if not 0 <= start <= end <= len(data):
        raise ValueError("a column is outside of the file")
    while position < end:
        reader = _Reader(data, position)
        header = reader.struct()
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        if not (isinstance(unpacked, int) and isinstance(packed, int) and unpacked >= 0 and packed >= 0):
            raise ValueError("the header of a page has no sizes")
        encodings = [
            header[field].get(at) for field, at in _HEADERS_OF_DATA.items() if isinstance(header.get(field), dict)
        ]
        yield unpacked, encodings[0] if encodings else None
        position = reader.position + packed


class _Reader:
    """Reads values in Thrift's compact protocol.

    Attributes:
        position: Next byte to read.

    Args:
        data: Bytes to read from.
        position: First byte to read.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return {field: value} of a struct; texts and lists are skipped. Raises: ValueError."""
        if depth > _DEEPEST:
            raise ValueError("the header of a page is nested too deeply")
        fields: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._number()
            fields[field] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in _NUMBERS:
            return self._number()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_BYTE, _DOUBLE, _BINARY):
            length = self._varint() if kind == _BINARY else 8 if kind == _DOUBLE else 1
            self.position += length
            return None
        raise ValueError("the header of a page has a value that none has")

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise ValueError("the header of a page is cut")
        self.position += 1
        return self._data[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("the header of a page has a number that never ends")

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
