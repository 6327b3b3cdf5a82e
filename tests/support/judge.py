"""Recognise the scene in an image of the drawn world by image analysis: colours, shape and position."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wuerstchen_core.training.world import COLOURS, SHAPES, Colour, Scene

GRID = 48
"""Side of the masks that are compared with the shapes, in samples."""
CLEAN = 0.9
"""Smallest overlap with the shape, as intersection over union, that the stricter judgement of a shape accepts."""
VISIBLE = 0.1
"""Smallest distance between the colours of figure and background, in RGB 0..1, that counts as a figure."""


@dataclass(frozen=True)
class Reading:
    """Scene that was recognised in an image.

    Attributes:
        colour: Name of the figure's colour.
        background: Name of the background's colour.
        shape: Name of the figure's shape.
        overlaps: {shape: intersection over union with it}, 0..1.
        gaps: {edge: distance of the figure from it}, as a share of the image's shorter side.
    """

    colour: str
    background: str
    shape: str
    overlaps: dict[str, float]
    gaps: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """Comparison of an image with the scene that it should show.

    Attributes:
        colour: Whether the figure's colour is right.
        background: Whether the background's colour is right.
        shape: Whether the shape is right.
        outline: Whether the figure's outline is that of the shape, a stricter judgement: it covers `CLEAN` of it.
        position: Whether the position is right; None if the scene names none.
    """

    colour: bool
    background: bool
    shape: bool
    outline: bool
    position: bool | None


def _nearest_colour(rgb: NDArray[np.floating], colours: Mapping[str, Colour]) -> str:
    names = list(colours)
    palette = np.array([colours[name] for name in names]) / 255
    return names[int(np.linalg.norm(palette - rgb, axis=1).argmin())]


def _normalised(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Centre the bounding box of a mask in a square and sample it on a grid, [GRID, GRID]."""
    ys, xs = np.nonzero(mask)
    half = max(np.ptp(xs), np.ptp(ys)) / 2 + 0.5
    steps = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    rows = np.round((ys.min() + ys.max()) / 2 + steps * half).astype(int)
    columns = np.round((xs.min() + xs.max()) / 2 + steps * half).astype(int)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    return mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)] & inside


@cache
def _templates() -> dict[str, NDArray[np.bool_]]:
    line = np.linspace(-1.2, 1.2, 241, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    return {name: _normalised(distance(x, y) < 0) for name, distance in SHAPES.items()}


def read(image: NDArray[np.floating], colours: Mapping[str, Colour] = COLOURS) -> Reading | None:
    """Recognise the scene in an image, [height, width, 3], in 0..1; None if there is no figure."""
    height, width = image.shape[:2]
    edge = max(2, min(height, width) // 64)
    border = np.concatenate([part.reshape(-1, 3) for part in (image[:edge], image[-edge:])])
    border = np.concatenate([border, *(part.reshape(-1, 3) for part in (image[:, :edge], image[:, -edge:]))])
    ground = np.median(border, axis=0)
    distance = np.linalg.norm(image - ground, axis=-1)
    strongest = float(np.quantile(distance, 0.99))
    if strongest < VISIBLE:
        return None
    figure = np.median(image[distance > 0.7 * strongest], axis=0)
    along = (image - ground) @ (figure - ground) / np.square(figure - ground).sum()
    mask = along > 0.5
    found = _normalised(mask)
    overlaps = {name: float((found & form).sum() / (found | form).sum()) for name, form in _templates().items()}
    ys, xs = np.nonzero(mask)
    short = min(height, width)
    left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    # A figure fills a square in one direction at least; the gaps are those of that square.
    half = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    gaps = {"left": x - half, "right": width - x - half, "top": y - half, "bottom": height - y - half}
    return Reading(
        _nearest_colour(figure, colours),
        _nearest_colour(ground, colours),
        max(overlaps, key=lambda name: overlaps[name]),
        overlaps,
        {name: float(gap) / short for name, gap in gaps.items()},
    )


def _in_place(position: str, gaps: dict[str, float]) -> bool:
    """Return whether a figure is near each edge of a position, and clearly nearer to it than to the opposite one."""
    edges = position.split()
    opposites = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    return all(gaps[edge] < 0.13 and gaps[opposites[edge]] - gaps[edge] > 0.02 for edge in edges)


def judge(image: NDArray[np.floating], scene: Scene, colours: Mapping[str, Colour] = COLOURS) -> Verdict:
    """Compare an image, [height, width, 3], in 0..1, with the scene that it should show, in one of `colours`."""
    reading = read(image, colours)
    if reading is None:
        return Verdict(False, False, False, False, False if scene.position else None)
    return Verdict(
        reading.colour == scene.colour,
        reading.background == scene.background,
        reading.shape == scene.shape,
        reading.overlaps[scene.shape] >= CLEAN,
        _in_place(scene.position, reading.gaps) if scene.position else None,
    )
