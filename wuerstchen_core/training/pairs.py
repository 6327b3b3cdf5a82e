"""Images with two figures, which cocktail has no words for: what inpainting makes of a scene and a prompt.

A straight line parts the figures. Each position's features are of the figure on its side, and their maps of the place
break off at the line, where Stage B has to draw nothing.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .fields import centres, features
from .world import Array, Layout, Scene, draw, random_layout


class Pair(NamedTuple):
    """Two scenes on one background.

    Attributes:
        scenes: The two.
        layouts: Their places.
        across: True where the line stands upright, so that the first scene is on its left; else it is above.
        line: Column or row of the line, in pixels.
    """

    scenes: tuple[Scene, Scene]
    layouts: tuple[Layout, Layout]
    across: bool
    line: float

    def crop(self, left: int, top: int, width: int, height: int) -> "Pair":
        """Return the part of the pair in a part of the image, all in pixels."""
        first, second = (layout.crop(left, top, width, height) for layout in self.layouts)
        return self._replace(layouts=(first, second), line=self.line - (left if self.across else top))

    def image(self) -> Array:
        """Return the image, [height, width, 3], float32 in 0..1."""
        first, second = (draw(*each) for each in zip(self.scenes, self.layouts, strict=True))
        return np.where(self._is_first(np.arange(first.shape[0]) + 0.5, np.arange(first.shape[1]) + 0.5), first, second)

    def features(self) -> Array:
        """Return the normalised embeddings, [16, height/42.67, width/42.67]; see `fields.features`."""
        first, second = (features(*each, "flat") for each in zip(self.scenes, self.layouts, strict=True))
        layout = self.layouts[0]
        chosen = self._is_first(centres(layout.height), centres(layout.width))
        return np.where(chosen[None, ..., 0], first, second)

    def _is_first(self, rows: "np.ndarray", columns: "np.ndarray") -> "np.ndarray":
        """Return which points are on the first scene's side: [rows, columns, 1]."""
        y, x = np.meshgrid(rows, columns, indexing="ij")
        return ((x if self.across else y) < self.line)[..., None]


def random_pair(rng: np.random.Generator, scenes: list[Scene], width: int, height: int) -> Pair:
    """Return two of the scenes, on the background of the first and apart from each other.

    Args:
        rng: Random generator.
        scenes: Scenes to choose from.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    first = scenes[rng.integers(len(scenes))]
    beside = [scene for scene in scenes if scene.background == first.background and scene != first]
    second = beside[rng.integers(len(beside))]
    across = width > height or (width == height and bool(rng.random() < 0.5))
    names = ("left", "right") if across else ("top", "bottom")
    size = None if width != height and rng.random() < 0.5 else "small"
    one, other = (replace(scene, size=size, position=name) for scene, name in zip((first, second), names, strict=True))
    a, b = random_layout(one, width, height, rng), random_layout(other, width, height, rng)
    near, far = (a.x + a.radius, b.x - b.radius) if across else (a.y + a.radius, b.y - b.radius)
    return Pair((one, other), (a, b), across, float(rng.uniform(near, far)))
