from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from wuerstchen_nodes.headless.cli.grid import GAP, MAX_SIDE, sheet
from wuerstchen_nodes.headless.cli.sweep import Axis

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200), (200, 0, 200)]


def picture(folder: Path, colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> Path:
    path = folder / f"{'_'.join(map(str, colour))}_{size[0]}.png"
    Image.new("RGB", size, colour).save(path)
    return path


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def centre(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """(x, y) of the middle of all pixels of that colour."""
    y, x = np.nonzero((pixels == colour).all(axis=-1))
    assert len(x) > 0, f"{colour} is not on the sheet"
    return float(x.mean()), float(y.mean())


def test_the_last_axis_runs_to_the_right_and_the_others_down(tmp_path):
    axes = [Axis("Sampler.cfg", [3, 4]), Axis("Sampler.seed", [1, 2, 3])]
    pixels = opened(sheet(axes, [[picture(tmp_path, colour)] for colour in COLOURS]))
    where = [centre(pixels, colour) for colour in COLOURS]
    for row in (where[:3], where[3:]):
        assert len({y for _, y in row}) == 1
        assert [round(b[0] - a[0]) for a, b in pairwise(row)] == [64 + GAP] * 2
    assert where[3][1] - where[0][1] == 48 + GAP
    assert [x for x, _ in where[:3]] == [x for x, _ in where[3:]]


def test_every_row_and_column_is_labelled(tmp_path):
    axes = [Axis("Sampler.cfg", [3, 4]), Axis("Sampler.seed", [1, 2])]
    red = picture(tmp_path, COLOURS[0])
    pixels = opened(sheet(axes, [[red]] * 4))
    ink = pixels.max(axis=-1) < 100
    is_red = (pixels == COLOURS[0]).all(axis=-1)
    rows, columns = np.nonzero(is_red.any(axis=1))[0], np.nonzero(is_red.any(axis=0))[0]
    assert ink[: rows[0], columns[0] : columns[0] + 64].any() and ink[: rows[0], columns[-1] - 63 :].any()
    assert ink[rows[0] : rows[0] + 48, : columns[0]].any() and ink[rows[-1] - 47 :, : columns[0]].any()
    assert not ink[rows[0] :, columns[0] :].any()


def test_a_combination_of_several_pictures_or_none(tmp_path):
    red, green, blue = (picture(tmp_path, colour) for colour in COLOURS[:3])
    pixels = opened(sheet([Axis("Sampler.seed", [1, 2, 3])], [[red, green], [], [blue]]))
    (x_red, y_red), (x_green, y_green), (x_blue, _) = (centre(pixels, colour) for colour in COLOURS[:3])
    assert (x_green - x_red, y_green) == (64, y_red)
    assert x_blue - x_red == 2 * (2 * 64 + GAP)


def test_many_large_pictures_are_shown_smaller(tmp_path):
    large = picture(tmp_path, COLOURS[0], (4000, 20))
    with Image.open(BytesIO(sheet([Axis("Sampler.seed", list(range(10)))], [[large]] * 10))) as image:
        assert image.width < MAX_SIDE + 1000
