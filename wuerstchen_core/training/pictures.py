# pyright: reportUnknownMemberType=false
# torch types from_numpy in part only.
"""Sources of captioned images for training: the drawn world, or a folder."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import InputError
from .world import FIGURE_SIZES, Array, Scene, Size, Style, draw, random_scene, triples

SIZES: dict[tuple[int, int], float] = {
    (256, 256): 0.6,
    (256, 384): 0.1,
    (384, 256): 0.1,
    (384, 384): 0.1,
    (512, 512): 0.1,
}
"""Size of training images (width, height) in pixels -> its share of them."""


class Pictures(Protocol):
    """Source of captioned images."""

    def sample(self, rng: np.random.Generator, width: int, height: int) -> tuple[Array, str]:
        """Draw a random image and its caption.

        Args:
            rng: Random generator.
            width: Width in pixels.
            height: Height in pixels.
        Returns:
            tuple[Array, str]: Image [height, width, 3], float32 in 0..1, and its caption.
        """
        ...

    def captions(self) -> Iterable[str]:
        """Return all captions, or enough of them to learn a vocabulary from."""
        ...


class WorldPictures:
    """Endless images of the drawn world, without the held-out triples.

    Args:
        styles: Styles, each as frequent as the others.
        sizes: Sizes of the figures, each as frequent as the others.
    """

    def __init__(self, *styles: Style, sizes: Sequence[Size] = FIGURE_SIZES) -> None:
        self._styles = styles
        self._sizes = sizes
        self._scenes = triples(held_out=False)

    def sample(self, rng: np.random.Generator, width: int, height: int) -> tuple[Array, str]:
        scene = random_scene(rng, self._scenes, self._sizes)
        style = self._styles[rng.integers(len(self._styles))]
        return draw(scene, width, height, rng, style), _vary(scene, rng)

    def captions(self) -> Iterator[str]:
        rng = np.random.default_rng(0)
        for scene in self._scenes:
            yield _vary(random_scene(rng, [scene]), rng)


def _vary(scene: Scene, rng: np.random.Generator) -> str:
    """Return the caption of a scene, with "an orange" as often as "a orange"."""
    if rng.random() < 0.5:
        return scene.caption.replace("a orange", "an orange")
    return scene.caption


class FolderPictures:
    """Images of a folder, each with a caption in a text file of the same name (`cat.png`, `cat.txt`).

    Args:
        folder: Folder; images may be in subfolders.
    Raises:
        InputError: The folder holds no captioned image.
    """

    SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})

    def __init__(self, folder: str | Path) -> None:
        self._pairs = [
            (image, image.with_suffix(".txt").read_text(encoding="utf-8").strip())
            for image in sorted(Path(folder).rglob("*"))
            if image.suffix.lower() in self.SUFFIXES and image.with_suffix(".txt").is_file()
        ]
        if not self._pairs:
            raise InputError(
                f"{folder} holds no captioned image; expected images ({', '.join(sorted(self.SUFFIXES))}), "
                "each beside a .txt file of the same name that holds its caption."
            )

    def sample(self, rng: np.random.Generator, width: int, height: int) -> tuple[Array, str]:
        path, caption = self._pairs[rng.integers(len(self._pairs))]
        with Image.open(path) as image:
            fitted = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (width, height))
        return (np.asarray(fitted) / 255).astype(np.float32), caption

    def captions(self) -> list[str]:
        return [caption for _, caption in self._pairs]


def random_size(rng: np.random.Generator) -> tuple[int, int]:
    """Return a random (width, height) of a batch, by the shares in `SIZES`."""
    sizes = list(SIZES)
    return sizes[rng.choice(len(sizes), p=list(SIZES.values()))]


def batch_of(count: int, width: int, height: int) -> int:
    """Return the number of images of a size that cost about as much as `count` images of 256x256; at least 1."""
    return max(1, count * 256 * 256 // (width * height))


def draw_batch(
    pictures: Pictures, rng: np.random.Generator, count: int, width: int, height: int
) -> tuple[Tensor, list[str]]:
    """Draw images of one size.

    Args:
        pictures: Source of the images.
        rng: Random generator.
        count: Number of images.
        width: Width in pixels.
        height: Height in pixels.
    Returns:
        tuple[Tensor, list[str]]: Images [count, 3, height, width], float32 in 0..1, and their captions.
    """
    images, captions = zip(*(pictures.sample(rng, width, height) for _ in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), list(captions)
