"""`batch --sheet FILE.png`: thumbnails of the images of a batch with id and prompt under each, on one or more pages."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from wuerstchen_core.files.pictures import read_picture
from wuerstchen_core.files.writing import replaced_whole

from ..errors import UsageError
from ..output_files import why_not_writable
from .grid import GAP, INK, PAPER, Font, fitting

COLUMNS, ROWS, SIDE = 6, 8, 240
"""Thumbnails across and down a page, and the longest side of one in pixels."""
_TEXT, _LINE, _LINES = 14, 18, 3
_MARK = "wuerstchen contact sheet"
"""Entry `Software` of every page. A file without it is never replaced."""


@dataclass(frozen=True)
class Thumbnail:
    """Image on a sheet.

    Attributes:
        path: File of the image.
        id: Text in the first line under it.
        prompt: Text in the lines below.
    """

    path: Path
    id: str
    prompt: str


def check_sheet(path: Path) -> None:
    """Check, before any work is done, that a sheet may be written.

    Args:
        path: Path of the first page.
    Raises:
        UsageError: The path does not end in .png, cannot be written, or another file is there.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--sheet is {str(path)!r}; expected a path that ends in .png.")
    problem = why_not_writable(path.parent, path.name)
    if problem:
        raise UsageError(f"--sheet: {path} cannot be written: {problem}. Choose another name.")
    if os.path.lexists(path) and not _is_ours(path):
        raise UsageError(f"--sheet: {path} exists and is no contact sheet. It is not overwritten; choose another name.")


def write_sheet(path: Path, thumbnails: Sequence[Thumbnail]) -> list[Path]:
    """Write the pages of a sheet in place of earlier ones, and return their paths.

    Args:
        path: Path of the first page; the others are called name_2.png, name_3.png, ...
        thumbnails: Images in order.
    Raises:
        UsageError: Another file has the name of a page.
        OSError: A page cannot be written, or an image cannot be read.
        ValueError: An image is damaged.
    """
    size = COLUMNS * ROWS
    pages = [thumbnails[start : start + size] for start in range(0, len(thumbnails), size)]
    paths = [page_path for page_path, _ in zip(_paths(path), pages, strict=False)]
    for page_path, page in zip(paths, pages, strict=True):
        check_sheet(page_path)
        with replaced_whole(page_path) as partial:
            partial.write_bytes(_drawn(page))
    for old in _paths(path, start=len(pages) + 1):  # pages of an earlier sheet that was longer
        if not (old.exists() and _is_ours(old)):
            break
        old.unlink()
    return paths


def _paths(path: Path, start: int = 1) -> Iterator[Path]:
    return (path if number == 1 else path.with_stem(f"{path.stem}_{number}") for number in count(start))


def _is_ours(path: Path) -> bool:
    try:
        return read_picture(path).info.get("Software") == _MARK
    except (OSError, ValueError):
        return False


def _drawn(thumbnails: Sequence[Thumbnail]) -> bytes:
    font = ImageFont.load_default(_TEXT)
    columns = min(COLUMNS, len(thumbnails))
    rows = -(-len(thumbnails) // columns)
    width, height = SIDE + GAP, SIDE + _LINES * _LINE + 2 * GAP
    page = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for index, each in enumerate(thumbnails):
        row, column = divmod(index, columns)
        left, top = GAP + column * width, GAP + row * height
        small = read_picture(each.path).convert("RGB")
        small.thumbnail((SIDE, SIDE))
        page.paste(small, (left + (SIDE - small.width) // 2, top + (SIDE - small.height) // 2))
        for number, line in enumerate([fitting(each.id, SIDE, font), *_wrapped(each.prompt, font)]):
            draw.text((left, top + SIDE + GAP // 2 + number * _LINE), line, INK, font)
    info = PngInfo()
    info.add_text("Software", _MARK)
    buffer = BytesIO()
    page.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _wrapped(text: str, font: Font) -> list[str]:
    """Return a text in the lines that are left under an image, the last one shortened."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < _LINES - 2:
        taken = 1
        while taken < len(words) and font.getlength(" ".join(words[: taken + 1])) <= SIDE:
            taken += 1
        lines.append(fitting(" ".join(words[:taken]), SIDE, font))
        words = words[taken:]
    return [*lines, *([fitting(" ".join(words), SIDE, font)] if words else [])]
