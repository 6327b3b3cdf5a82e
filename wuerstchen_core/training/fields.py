"""Embeddings of the drawn world by formula: maps that say where the figure is, and what it is.

The image encoder is trained to see them in the image. Around the figure every map is a plane or a constant, which
Stage B, as it enlarges them, finds between two positions as exactly as on one; and a small error of Stage C moves the
figure a little.
"""

from collections.abc import Mapping
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..geometry import PIXELS_PER_STAGE_C, STAGE_C_CHANNELS
from ..networks.cocktail_encoder import PATCH
from .world import COLOURS, SHAPES, Colour, Layout, Scene, Style

CODES = {shape: np.eye(4, dtype=np.float32)[i // 2] * (2 if i % 2 else -2) for i, shape in enumerate(SHAPES)}
"""Shape -> its code, the corners of a cross-polytope: any two are far apart."""

PLACE, SIZE, FIGURE, BACKGROUND, SHAPE, STYLE = slice(0, 4), 4, slice(5, 8), slice(8, 11), slice(11, 15), 15
"""Channels of the features."""
REACH = 2.5
"""Distance from the figure's centre, in its radii, up to which the maps of its place are planes."""
PLACE_SCALE = 0.7
"""Value of the maps of the place at a distance of one radius."""
DIAGONAL = 0.5**0.5


def centres(side: int) -> NDArray[np.float64]:
    """Return the pixels that the embeddings of a side of an image are centred on.

    Stage B enlarges embeddings with aligned corners: the first position lies on the centre of the first patch of 8
    pixels, and the last one on that of the last patch.

    Args:
        side: Width or height of the image in pixels.
    """
    return np.linspace(PATCH / 2, side - PATCH / 2, ceil(side / PIXELS_PER_STAGE_C))


def features(
    scene: Scene, layout: Layout, style: Style, colours: Mapping[str, Colour] = COLOURS
) -> NDArray[np.float32]:
    """Return the normalised embeddings of a scene.

    Returns:
        NDArray[np.float32]: [16, height/42.67, width/42.67], -2..2. The channels of `PLACE` are the position, seen from
            the figure's centre in units of its radius: x, y, and both along the diagonals. Then its size, the channels
            of `FIGURE` and `BACKGROUND` are RGB, those of `SHAPE` the shape's code, and the last one is the style.
    """
    x = (centres(layout.width) - layout.x) / layout.radius
    y = (centres(layout.height) - layout.y) / layout.radius
    x, y = np.meshgrid(x.clip(-2 * REACH, 2 * REACH), y.clip(-2 * REACH, 2 * REACH))
    maps = np.empty((STAGE_C_CHANNELS, *x.shape), np.float32)
    maps[PLACE] = np.stack([x, y, (x + y) * DIAGONAL, (x - y) * DIAGONAL]).clip(-REACH, REACH) * PLACE_SCALE
    maps[SIZE] = np.log(layout.share / 0.23) * 2.8
    for channels, colour in ((FIGURE, scene.colour), (BACKGROUND, scene.background)):
        maps[channels] = _column(np.asarray(colours[colour]) / 127.5 - 1) * 1.5
    maps[SHAPE] = _column(CODES[scene.shape])
    maps[STYLE] = 1.0 if style == "aesthetic" else -1.0
    return maps


def _column(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return values[:, None, None]
