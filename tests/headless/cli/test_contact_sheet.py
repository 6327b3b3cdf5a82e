"""Contact sheets of batches."""

from pathlib import Path

import numpy as np
from PIL import Image

from wuerstchen_nodes.headless.cli.contact_sheet import COLUMNS, ROWS, SIDE, Thumbnail, write_sheet

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def thumbnails(count: int, prompt: str = "") -> list[Thumbnail]:
    found = []
    for number in range(count):
        path = Path(f"{number % 3}.png")
        if not path.exists():
            Image.new("RGB", (480, 960 if number == 1 else 480), COLOURS[number]).save(path)
        found.append(Thumbnail(path, f"row {number}", prompt))
    return found


def test_images_are_in_order_scaled_and_labelled():
    (path,) = write_sheet(Path("sheet.png"), thumbnails(3, "a red heart on a white background " * 20))
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    lefts = []
    for colour, width in zip(COLOURS, (SIDE, SIDE // 2, SIDE), strict=True):
        y, x = np.nonzero((pixels == colour).all(axis=-1))
        assert (np.ptp(x) + 1, np.ptp(y) + 1) == (width, SIDE)
        lefts.append(x.min())
    assert lefts == sorted(lefts)
    dark = (pixels.sum(axis=-1) < 200).any(axis=1)
    assert dark[SIDE + 20 :].any() and not dark[-1]


def test_many_images_have_several_pages_and_pages_that_are_too_many_go():
    pages = write_sheet(Path("sheet.png"), thumbnails(2 * COLUMNS * ROWS + 1))
    assert [path.name for path in pages] == ["sheet.png", "sheet_2.png", "sheet_3.png"]
    Path("sheet_4.png").write_bytes(Path("0.png").read_bytes())
    assert len(write_sheet(Path("sheet.png"), thumbnails(2))) == 1
    assert sorted(path.name for path in Path().glob("sheet*")) == ["sheet.png", "sheet_4.png"]


def test_no_image_is_no_page():
    assert write_sheet(Path("sheet.png"), []) == []
