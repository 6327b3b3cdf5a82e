"""`--grid FILE.png`: the images of a sweep on one sheet with labelled axes."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from .sweep import Axis, label, points

GAP = 8
TEXT_SIZE, PAPER, INK = 18, "white", "black"
MAX_SIDE = 16_000
"""Largest side of a sheet in pixels; images are scaled down to fit."""

Font = FreeTypeFont | ImageFont.ImageFont


def sheet(axes: Sequence[Axis], images: Sequence[Sequence[Path]]) -> bytes:
    """Return a PNG with a column for each value of the last axis and a row for each combination of the others.

    Args:
        axes: At least one axis.
        images: Image files of each combination, in the order of `sweep.points`. Several are shown side by side; a
            combination without any is left white.
    """
    *above, across = axes
    columns = len(across.values)
    top = [label({across.key: value}) for value in across.values]
    left = [label(each) for each in points(above)] if above else []
    cells = [_beside(paths) for paths in images]
    rows = len(cells) // columns
    width = max(cell.width for cell in cells)
    height = max(cell.height for cell in cells)
    scale = min(1.0, MAX_SIDE / (columns * (width + GAP)), MAX_SIDE / (rows * (height + GAP)))
    if scale < 1:
        width, height = max(1, int(width * scale)), max(1, int(height * scale))
        for cell in cells:
            cell.thumbnail((width, height))
    font = ImageFont.load_default(TEXT_SIZE)
    margin = min(int(max((font.getlength(text) for text in left), default=0)), 3 * width) + (2 * GAP if left else GAP)
    header = TEXT_SIZE + 2 * GAP
    page = Image.new("RGB", (margin + columns * (width + GAP), header + rows * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    for column, text in enumerate(top):
        draw.text((margin + column * (width + GAP), GAP), fitting(text, width, font), INK, font)
    for row, text in enumerate(left):
        middle = header + row * (height + GAP) + (height - TEXT_SIZE) // 2
        draw.text((GAP, middle), fitting(text, margin - 2 * GAP, font), INK, font)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        page.paste(cell, (margin + column * (width + GAP), header + row * (height + GAP)))
    buffer = BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _beside(paths: Sequence[Path]) -> Image.Image:
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    size = sum(each.width for each in images), max((each.height for each in images), default=0)
    joined = Image.new("RGB", (max(size[0], 1), max(size[1], 1)), PAPER)
    x = 0
    for each in images:
        joined.paste(each, (x, 0))
        x += each.width
    return joined


def fitting(text: str, width: int, font: Font) -> str:
    """Return a text, shortened to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
