# pyright: reportUnknownMemberType=false
# torch types from_numpy in part only.
"""Sources of captioned images for training: the drawn world, or a folder."""

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from ..files.pictures import read_picture
from .captions import captioned_pictures
from .fields import features
from .phrases import phrase
from .world import (
    COLOURS,
    FIGURE_SIZES,
    Array,
    Colour,
    Scene,
    Size,
    Style,
    draw,
    random_layout,
    random_scene,
    triples,
)

SIZES: dict[tuple[int, int], float] = {
    (256, 256): 0.6,
    (256, 384): 0.1,
    (384, 256): 0.1,
    (384, 384): 0.1,
    (512, 512): 0.1,
}
"""Size of training images (width, height) in pixels -> its share of them."""
EVEN_SIZES: dict[tuple[int, int], float] = {
    (256, 256): 0.35,
    (256, 384): 0.15,
    (384, 256): 0.15,
    (384, 384): 0.15,
    (512, 512): 0.2,
}
"""Sizes for the image encoder and their shares. It has to see a figure as exactly at each of them."""
WHOLE = 256
"""Smallest side of a whole image. A smaller one is a piece of an image of this side."""
PIECES: dict[tuple[int, int], float] = {
    (128, 128): 0.62,
    (256, 256): 0.26,
    (256, 384): 0.04,
    (384, 256): 0.04,
    (512, 512): 0.04,
}
"""Sizes for Stage B and their shares. It learns outlines, which pieces show more of at the same cost."""


LEAST_CONTRAST = 60
"""Smallest difference in one of the channels of two random colours, of 255."""
_LETTERS = list(string.ascii_lowercase)


class Sample(NamedTuple):
    """One captioned image.

    Attributes:
        image: [height, width, 3], float32 in 0..1.
        caption: Its caption.
        features: [16, height/42.67, width/42.67], the features that the image encoder has to see in it; None where it
            has to find features of its own.
    """

    image: Array
    caption: str
    features: Array | None = None


class Pictures(Protocol):
    """Source of captioned images.

    Attributes:
        by_formula: True for images with features.
    """

    by_formula: bool

    def sample(self, rng: np.random.Generator, width: int, height: int) -> Sample:
        """Return a random image of `width` x `height` pixels, or a piece of one where a side is below `WHOLE`."""
        ...

    def captions(self) -> Iterable[str]:
        """Return all captions, or enough of them to learn a vocabulary from."""
        ...


class WorldPictures:
    """Endless images of the drawn world, without the held-out triples.

    Args:
        styles: Styles, each as frequent as the others.
        sizes: Sizes of the figures, each as frequent as the others.
        by_formula: True for images with features. Training that goes on from other checkpoints than cocktail's goes
            without: they may know other ones.
        any_colour: Share of images in random colours, which their captions call by invented words: for the networks
            that have to redraw every colour, whether the text encoder knows a word for it or not.
    """

    def __init__(
        self,
        *styles: Style,
        sizes: Sequence[Size] = FIGURE_SIZES,
        by_formula: bool = True,
        any_colour: float = 0.0,
    ) -> None:
        self._styles = styles
        self._sizes = sizes
        self._any_colour = any_colour
        self.by_formula = by_formula
        self._scenes = triples(held_out=False)

    def sample(self, rng: np.random.Generator, width: int, height: int) -> Sample:
        scene = random_scene(rng, self._scenes, self._sizes)
        colours = COLOURS
        if rng.random() < self._any_colour:
            scene, colours = recoloured(scene, rng)
        style = self._styles[rng.integers(len(self._styles))]
        layout = random_layout(scene, max(width, WHOLE), max(height, WHOLE), rng)
        image = draw(scene, layout, style, colours)
        if (width, height) != (layout.width, layout.height):
            # A piece shows a part of the outline.
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.1) * layout.radius
            left = _start(layout.x + distance * np.cos(angle), width, layout.width)
            top = _start(layout.y + distance * np.sin(angle), height, layout.height)
            image = image[top : top + height, left : left + width]
            layout = layout.crop(left, top, width, height)
        known = features(scene, layout, style, colours) if self.by_formula else None
        return Sample(image, phrase(scene, rng), known)

    def captions(self) -> Iterator[str]:
        rng = np.random.default_rng(0)
        for scene in self._scenes:
            for _ in range(4):
                yield phrase(random_scene(rng, [scene]), rng)


def recoloured(scene: Scene, rng: np.random.Generator) -> tuple[Scene, dict[str, Colour]]:
    """Return a scene in which the figure, the background or both have a random colour with an invented name.

    Returns:
        tuple[Scene, dict[str, Colour]]: The scene, and all colours by their names. Its two differ clearly.
    """
    changed = (("colour",), ("background",), ("colour", "background"))[rng.integers(3)]
    while True:
        words = {name: "".join(rng.choice(_LETTERS, rng.integers(2, 9))) for name in changed}
        colours = {**COLOURS, **{word: _random_colour(rng) for word in words.values()}}
        found = replace(scene, **words)
        pair = np.asarray([colours[found.colour], colours[found.background]])
        if np.abs(pair[0] - pair[1]).max() >= LEAST_CONTRAST:
            return found, colours


def _random_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(256, size=3))
    return red, green, blue


def _start(centre: float, length: int, whole: int) -> int:
    """Return where a piece of `length` pixels begins that lies around `centre`, within `whole` pixels."""
    return int(np.clip(centre - length / 2, 0, whole - length))


class FolderPictures:
    """Captioned images of a folder or a table.

    Args:
        folder: As for `captioned_pictures`.
    Raises:
        InputError: As for `captioned_pictures`.
    """

    by_formula = False

    def __init__(self, folder: str | Path) -> None:
        self._pairs = captioned_pictures(folder)

    def sample(self, rng: np.random.Generator, width: int, height: int) -> Sample:
        path, caption = self._pairs[rng.integers(len(self._pairs))]
        whole = max(width, WHOLE), max(height, WHOLE)
        fitted = np.asarray(ImageOps.fit(read_picture(path).convert("RGB"), whole))
        top, left = (
            int(rng.integers(more - side + 1)) for more, side in zip(whole[::-1], (height, width), strict=True)
        )
        return Sample((fitted[top : top + height, left : left + width] / 255).astype(np.float32), caption)

    def captions(self) -> list[str]:
        return [caption for _, caption in self._pairs]


def random_size(rng: np.random.Generator, shares: Mapping[tuple[int, int], float] = SIZES) -> tuple[int, int]:
    """Return a random (width, height) of a batch, by its share in `shares`."""
    sizes = list(shares)
    return sizes[rng.choice(len(sizes), p=list(shares.values()))]


def batch_of(count: int, width: int, height: int) -> int:
    """Return the number of images of a size that cost about as much as `count` images of 256x256; at least 1."""
    return max(1, count * 256 * 256 // (width * height))


@dataclass(frozen=True)
class Batch:
    """Captioned images of one size.

    Attributes:
        images (Tensor): [count, 3, height, width], float32 in 0..1.
        captions (list[str]): One for each image.
        features (Tensor | None): [count, 16, height/42.67, width/42.67]; None as in `Sample`.
    """

    images: Tensor
    captions: list[str]
    features: Tensor | None


def draw_batch(pictures: Pictures, rng: np.random.Generator, count: int, width: int, height: int) -> Batch:
    """Draw `count` images of `width` x `height` pixels."""
    images, captions, known = zip(*(pictures.sample(rng, width, height) for _ in range(count)), strict=True)
    return Batch(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        list(captions),
        None if known[0] is None else torch.from_numpy(np.stack(known)),
    )
