"""Reading of files that may come from strangers: regular files of a bounded size, and JSON of a bounded depth.

Every error is an OSError or a ValueError whose text ends a sentence; the caller names the file and says what to do.
"""

import errno
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

MAX_TEXT_BYTES = 64 * 2**20
"""Largest text that is read whole: a workflow, another JSON document, or a table."""
MAX_DEPTH = 100
"""Most lists and objects inside one another. ComfyUI's workflows have about ten."""
MAX_VALUES = 3_000_000
"""Most values of a document. Each takes up to 300 bytes of memory."""
_BLOCK = 2**20


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, unlike `open` without waiting where it is a pipe.

    Raises:
        OSError: It is a folder, a pipe, a socket or a device, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {_kind_of_file(mode)}, not a file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        OSError: It is larger, or as for `open_file`.
    """
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        _refuse_file(path, most)
    return data


def check_size(path: Path, most: int) -> None:
    """Check that a file that another library is to open is a regular one of at most `most` bytes.

    Raises:
        OSError: It is larger, or as for `open_file`.
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            _refuse_file(path, most)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file of any size, as hexadecimal digits. Raises: OSError, as for `open_file`."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path, most: int = MAX_TEXT_BYTES, values: int = MAX_VALUES) -> Any:
    """Return the JSON document in a file in UTF-8, of at most `most` bytes and `values` values.

    Raises:
        OSError: As for `read_bytes`.
        ValueError: As for `parse_json`, or it is not UTF-8.
    """
    return parse_json(read_bytes(path, most).decode("utf-8-sig"), values=values)


def parse_json(text: str, parse_constant: Callable[[str], Any] | None = None, *, values: int = MAX_VALUES) -> Any:
    """Return the JSON document in a text.

    Args:
        text: The document.
        parse_constant: Called with NaN, Infinity and -Infinity, which JSON lacks and ComfyUI writes; None to take them.
        values: Most values, those in lists and objects included.
    Raises:
        json.JSONDecodeError: It is not JSON.
        ValueError: An object has a key twice, a number has thousands of digits, or as for `check_json`.
    """
    if most_values_in(text) > values:
        _refuse_size(values)
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=parse_constant)
    except RecursionError:
        _refuse_depth()
    check_json(document)
    return document


def most_values_in(text: str) -> int:
    """Return how many values the lists and objects of a JSON document hold at most, long before it could be read."""
    return text.count(",") + text.count("[") + text.count("{")


def check_json(document: Any) -> None:
    """Check a document that is parsed already.

    Raises:
        ValueError: It is nested too deeply, has too many values, or holds half a character, as "\\ud83d" in JSON.
    """
    count = 0
    level = [document]
    for depth in range(MAX_DEPTH + 1):
        if not level:
            break
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                check_text(value)
            elif isinstance(value, (dict, list, tuple)):
                if depth == MAX_DEPTH:
                    _refuse_depth()
                inner += value
                if isinstance(value, dict):
                    inner += value.values()
        count += len(inner)
        if count > 2 * MAX_VALUES:  # keys of objects are counted, too
            _refuse_size()
        level = inner


def check_text(text: str) -> None:
    """Check that a text can be written to a file. Raises: ValueError, where it holds half a character."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text {text[:40]!r} holds half a character, {text[error.start]!r}, which no file can hold"
        ) from None


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that gives a whole number, such as "64 MiB"."""
    units = ["bytes", "KiB", "MiB", "GiB"]
    while size and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        units.pop(0)
    return f"{size} {units[0]}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"an object has the key {twice[:40]!r} twice")
    return found


def _refuse_file(path: Path, most: int) -> NoReturn:
    raise OSError(errno.EFBIG, f"it is larger than {size_text(most)}", str(path))


def _refuse_depth() -> NoReturn:
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _refuse_size(values: int = MAX_VALUES) -> NoReturn:
    raise ValueError(f"it has more than {values:,} values")


def _kind_of_file(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in kinds.items() if test(mode)), "something else")
