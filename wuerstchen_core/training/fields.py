"""Embeddings of the drawn world by formula: maps that say where the figure is, and what it is.

The semantic compressor is trained to see them in the image. Every map is smooth, so Stage B, which enlarges them, finds
the figure's outline between two positions as exactly as on one, and a small error of Stage C moves the figure a little.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..geometry import PIXELS_PER_STAGE_C
from .compressor import PATCH
from .world import COLOURS, SHAPES, Layout, Scene, Style

CODES = {shape: np.eye(4, dtype=np.float32)[i // 2] * (2 if i % 2 else -2) for i, shape in enumerate(SHAPES)}
"""Shape -> its code, the corners of a cross-polytope: any two are far apart."""


def centres(side: int) -> NDArray[np.float64]:
    """Return the pixels that the embeddings of a side of an image are centred on.

    Stage B enlarges embeddings with aligned corners: the first position lies on the centre of the first patch of 8
    pixels, and the last one on that of the last patch.

    Args:
        side: Width or height of the image in pixels.
    """
    return np.linspace(PATCH / 2, side - PATCH / 2, ceil(side / PIXELS_PER_STAGE_C))


def features(scene: Scene, layout: Layout, style: Style) -> NDArray[np.float32]:
    """Return the normalised embeddings of a scene.

    Returns:
        NDArray[np.float32]: [16, height/42.67, width/42.67], about -2..2: the position in units of the radius from the
            figure's centre (0 to 3, coarse and fine), radius, colours of figure and background, shape, style.
    """
    x = (centres(layout.width) - layout.x) / layout.radius
    y = (centres(layout.height) - layout.y) / layout.radius
    x, y = np.meshgrid(x, y)
    size = np.log(layout.radius / min(layout.width, layout.height) / 0.23) * 2.8
    constants = [
        size,
        *(np.asarray(COLOURS[scene.colour]) / 127.5 - 1) * 1.5,
        *(np.asarray(COLOURS[scene.background]) / 127.5 - 1) * 1.5,
        *CODES[scene.shape],
        1.0 if style == "aesthetic" else -1.0,
    ]
    maps = [1.7 * np.tanh(x / 3), 1.7 * np.tanh(y / 3), 1.3 * np.tanh(x), 1.3 * np.tanh(y)]
    return np.stack([*maps, *(np.full_like(x, value) for value in constants)]).astype(np.float32)
