"""Files that a run saves on a server: which ones the outputs name, and their names here."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ..errors import BackendError
from .requests import line

MAX_FILES = 10_000
"""Most files of a run."""
_NUMBERED = re.compile(r"(.+?)_\d{5,}_")
"""Name that ComfyUI gives to a saved file; the group is the node's filename prefix."""
_MAX_NAME = 255
"""Most bytes of a name on common file systems."""
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class SavedFile(NamedTuple):
    """A file in a folder of the server.

    Attributes:
        filename: Its name.
        subfolder: Its folder below the server's; empty for none.
        type: Folder of the server, "output" or "temp".
    """

    filename: str
    subfolder: str
    type: str

    @property
    def prefix(self) -> str:
        """Return the name to save it by, without its number and suffix."""
        stem = PurePosixPath(self.filename).stem
        match = _NUMBERED.fullmatch(stem)
        return "/".join(part for part in (self.subfolder.replace("\\", "/"), match[1] if match else stem) if part)

    @property
    def suffix(self) -> str:
        """Return its suffix, such as ".png"."""
        return PurePosixPath(self.filename).suffix

    def check_content(self, data: bytes, url: str) -> None:
        """Check that a picture is one, from its beginning to its end. Raises: BackendError."""
        if self.suffix.lower() == ".png" and not (data.startswith(_PNG) and _PNG_END in data):
            raise BackendError(
                f"{url} sends {len(data)} bytes for {line(self.filename)} that are no whole PNG file; nothing was "
                "saved under its name. Look at the server."
            )


def saved_file(item: Any, url: str) -> SavedFile | None:
    """Return the file that an item of a node's output names; None where it names none that was saved.

    Args:
        item: The item as parsed JSON.
        url: URL of the server, for messages.
    Raises:
        BackendError: It names a file outside of the server's folders.
    """
    if not isinstance(item, Mapping) or "filename" not in item or item.get("type") not in ("output", "temp"):
        return None
    name, folder = item["filename"], item.get("subfolder")
    folder = "" if folder is None else folder
    parts = folder.replace("\\", "/").split("/") if isinstance(folder, str) and folder else []
    if not isinstance(folder, str) or not all(_is_name(part) for part in (name, *parts)):
        raise BackendError(
            f"{url} names a saved file {line(ascii(name), 100)} in the subfolder {line(ascii(folder), 100)}; "
            "expected a name in its output folder. Nothing was saved under it."
        )
    return SavedFile(name, folder, item["type"])


def _is_name(text: Any) -> bool:
    return (
        isinstance(text, str)
        and text not in ("", ".", "..")
        and not set(text) & set("/\\")
        and text.isprintable()
        and len(text.encode()) <= _MAX_NAME
    )
