"""Page `index.html`: the images of a batch with their prompts, to look at and to filter in a browser."""

import html
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wuerstchen_core.files.untrusted import open_file
from wuerstchen_core.files.writing import replaced_whole

from .results import Result

NAME = "index.html"
_TEMPLATE = Path(__file__).with_name("page.html")
_MARK = b"<!-- wuerstchen batch -->"
"""Second line of every such page. A page without it is somebody else's."""


def write_page(folder: Path, scratch: Path, results: list[Result]) -> None:
    """Write the page, in place of an older one. A page that is not of a batch is left as it is.

    Args:
        folder: Output folder.
        scratch: Folder of the unfinished file, on the same file system.
        results: All rows.
    Raises:
        OSError: The file cannot be written.
    """
    if not may_write(folder):
        return
    data = json.dumps([_fields(each) for each in results], ensure_ascii=False, separators=(",", ":"))
    title = html.escape(folder.resolve().name or "batch")
    before, _, after = _TEMPLATE.read_text(encoding="utf-8").replace("@TITLE@", title).partition("@DATA@")
    safe = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")  # no tag ends the script
    with replaced_whole(folder / NAME, durable=True, scratch=scratch) as partial:
        partial.write_text(before + safe + after, encoding="utf-8", errors="backslashreplace")


def may_write(folder: Path) -> bool:
    """Return whether the page's name is free in a folder, or has an earlier page of a batch."""
    try:
        with open_file(folder / NAME) as file:
            return _MARK in file.read(200)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _fields(result: Result) -> dict[str, Any]:
    return {
        "id": result.row.id,
        "prompt": result.prompt,
        "seed": None if result.seed is None else str(result.seed),
        "status": result.status,
        "seconds": result.state.seconds,
        "error": result.error,
        "files": [quote(name) for name in result.files],
    }
