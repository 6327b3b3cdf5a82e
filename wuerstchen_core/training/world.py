"""The drawn world of the embedded model: one figure on a plain background, drawn by formula, with a caption."""

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Style = Literal["flat", "aesthetic"]
"""Style of an image."""
Array = NDArray[np.float32]
Distance = Callable[[Array, Array], NDArray[np.floating]]
"""Function from coordinates (x, y), both [height, width], to the signed distance from a figure, negative inside."""

Colour = tuple[int, int, int]
"""sRGB in 0..255."""
COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (245, 220, 40),
    "green": (40, 160, 60),
    "cyan": (40, 200, 210),
    "blue": (40, 70, 220),
    "purple": (130, 50, 170),
    "pink": (245, 140, 180),
    "brown": (120, 75, 40),
    "white": (250, 250, 250),
    "gray": (128, 128, 128),
    "black": (15, 15, 15),
}
"""Name -> sRGB in 0..255."""
POSITIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
"""Name -> direction from the centre (x to the right, y down)."""
CORNERS = frozenset(name for name, direction in POSITIONS.items() if all(direction))
"""Positions that are corners."""
Size = Literal["small", "large"] | None
"""Size of a figure; None for the middle one, which captions do not name."""
RADII: dict[Size, tuple[float, float]] = {"small": (0.14, 0.18), None: (0.21, 0.27), "large": (0.31, 0.37)}
"""Smallest and largest radius of a figure, as a share of the image's shorter side."""
FIGURE_SIZES: tuple[Size, ...] = (None, None, "small", "large")
"""Sizes of random figures, each entry as frequent as the others."""


@dataclass(frozen=True)
class Scene:
    """Content of one image.

    Attributes:
        colour: Colour of the figure, a key of `COLOURS`.
        shape: Shape of the figure, a key of `SHAPES`.
        background: Colour of the background, a key of `COLOURS`.
        size: Size of the figure.
        position: Side or corner of the image that the figure is at, a key of `POSITIONS`; None for the middle.
    """

    colour: str
    shape: str
    background: str
    size: Size = None
    position: str | None = None

    @property
    def caption(self) -> str:
        """Caption of the image."""
        words = ["a", self.size, self.colour, self.shape]
        if self.position:
            words += ["in the" if self.position in CORNERS else "at the", self.position]
        words += ["on a", self.background, "background"]
        return " ".join(word for word in words if word)

    @property
    def held_out(self) -> bool:
        """True for the tenth of all (colour, shape, background) triples that training never sees."""
        return zlib.crc32(f"{self.colour} {self.shape} {self.background}".encode()) % 10 == 0


def triples(held_out: bool) -> list[Scene]:
    """Return every scene without size and position: the held-out tenth, or the others."""
    scenes = (
        Scene(colour, shape, background)
        for colour, shape, background in itertools.product(COLOURS, SHAPES, COLOURS)
        if colour != background
    )
    return [scene for scene in scenes if scene.held_out == held_out]


def random_scene(
    rng: np.random.Generator,
    scenes: list[Scene],
    sizes: Sequence[Size] = FIGURE_SIZES,
    positions: Sequence[str] = tuple(POSITIONS),
) -> Scene:
    """Return one of `scenes` with one of `sizes`, and with one of `positions` half of the time."""
    scene = scenes[rng.integers(len(scenes))]
    size = sizes[int(rng.integers(len(sizes)))]
    position = positions[int(rng.integers(len(positions)))] if rng.random() < 0.5 else None
    return Scene(scene.colour, scene.shape, scene.background, size, position)


# Coordinates and distances of figures are in units of the radius: x to the right, y down, both -1..1 on the figure.


def _polygon(points: list[tuple[float, float]]) -> Distance:
    """Return the exact signed distance of a closed polygon (even-odd rule)."""
    edges = list(zip(points, points[1:] + points[:1], strict=True))

    def distance(x: Array, y: Array) -> Array:
        nearest = np.full_like(x, np.inf)
        inside = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in edges:
            ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
            along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
            nearest = np.minimum(nearest, (px - ex * along) ** 2 + (py - ey * along) ** 2)
            if ey != 0:
                inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * (ex / ey))
        return np.sqrt(nearest) * np.where(inside, -1, 1)

    return distance


def _star_points() -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.05, 0.45)
    return [(float(r * np.cos(a)), float(r * np.sin(a)) + 0.08) for r, a in zip(radii, angles, strict=True)]


def _heart_points() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [(float(a) / 16.5, float(b - 2.5) / 16.5) for a, b in zip(x, y, strict=True)]


def _cross_points() -> list[tuple[float, float]]:
    arm, reach = 0.34, 0.98
    corner = [(arm, -reach), (arm, -arm), (reach, -arm)]
    quarter_turns = [[(c * x - s * y, s * x + c * y) for x, y in corner] for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return [point for turn in quarter_turns for point in turn]


SHAPES: dict[str, Distance] = {
    "circle": lambda x, y: np.hypot(x, y) - 0.97,
    "square": _polygon([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]),
    "triangle": _polygon([(0, -0.95), (0.98, 0.82), (-0.98, 0.82)]),
    "star": _polygon(_star_points()),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.76) - 0.22,
    "cross": _polygon(_cross_points()),
    "heart": _polygon(_heart_points()),
    "diamond": _polygon([(0, -1), (0.7, 0), (0, 1), (-0.7, 0)]),
}


@dataclass(frozen=True)
class Layout:
    """Place of the figure in an image, in pixels.

    Attributes:
        width: Width of the image.
        height: Height of the image.
        x: Column of the figure's centre.
        y: Row of the figure's centre.
        radius: Radius of the figure.
        share: Radius as a share of the shorter side of the whole image, which a crop is a part of.
    """

    width: int
    height: int
    x: float
    y: float
    radius: float
    share: float

    def crop(self, left: int, top: int, width: int, height: int) -> "Layout":
        """Return the layout of a part of the image, all in pixels."""
        return replace(self, width=width, height=height, x=self.x - left, y=self.y - top)


def random_layout(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Layout:
    """Return a random place and radius that fit the scene, for an image of `width` x `height` pixels."""
    short = min(width, height)
    share = rng.uniform(*RADII[scene.size])
    radius = share * short
    jitter = rng.uniform(-0.05, 0.05, 2) * short
    margin = rng.uniform(0.03, 0.09) * short
    toward_x, toward_y = POSITIONS.get(scene.position or "", (0, 0))
    x = width / 2 + (toward_x * (width / 2 - radius - margin) if toward_x else jitter[0])
    y = height / 2 + (toward_y * (height / 2 - radius - margin) if toward_y else jitter[1])
    return Layout(width, height, float(x), float(y), float(radius), float(share))


def draw(scene: Scene, layout: Layout, style: Style = "flat", colours: Mapping[str, Colour] = COLOURS) -> Array:
    """Draw a scene.

    Args:
        scene: Content of the image.
        layout: Size of the image, and the figure's place.
        style: "flat" colours, or "aesthetic": lit from the upper left, with a glow around the figure.
        colours: Colours by the names that the scene has for them.
    Returns:
        Array: [height, width, 3], float32, sRGB in 0..1.
    """
    width, height, radius = layout.width, layout.height, layout.radius
    x = ((np.arange(width) + 0.5 - layout.x) / radius).astype(np.float32)
    y = ((np.arange(height) + 0.5 - layout.y) / radius).astype(np.float32)
    figure = np.asarray(colours[scene.colour], np.float32) / 255
    image = np.empty((height, width, 3), np.float32)
    image[:] = np.asarray(colours[scene.background], np.float32) / 255
    if style == "aesthetic":
        from_centre = np.hypot(x * np.float32(radius / width), y[:, None] * np.float32(radius / height))
        image *= 1 - 0.08 * np.clip(from_centre * 1.4, 0, 1)[..., None]

    # Only the background is further out than this.
    reach = 1.1 if style == "flat" else 2.6
    window = (_span(y, reach), _span(x, reach))
    x, y = np.meshgrid(x[window[1]], y[window[0]])
    distance = SHAPES[scene.shape](x, y).astype(np.float32)[..., None]
    part = image[window]
    if style == "aesthetic":
        glow = 0.3 * np.exp(-np.maximum(distance, 0) / 0.22)
        part += glow * (figure * 0.7 + 0.3 - part)
        light = np.clip(-(x + y) * 0.5, -1, 1)[..., None]
        figure = np.clip(figure * (1 + 0.1 * light) + 0.05 * light, 0, 1)
    part += np.clip(0.5 - distance * np.float32(radius), 0, 1) * (figure - part)
    return image


def _span(line: Array, reach: float) -> slice:
    """Return the part of a rising line that is within `reach` of 0."""
    return slice(*np.searchsorted(line, (-reach, reach)).tolist())
