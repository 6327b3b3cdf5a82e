"""Where training pictures come from: the drawn world, or a folder of the user's own with captions."""

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
"""(width, height) in pixels that training draws, and how often."""


class Pictures(Protocol):
    """A source of captioned pictures."""

    def sample(self, rng: np.random.Generator, width: int, height: int) -> tuple[Array, str]:
        """A picture [height, width, 3] in 0..1, and its caption."""
        ...

    def captions(self) -> Iterable[str]:
        """Every caption, or enough of them to learn a vocabulary from."""
        ...


class WorldPictures:
    """Endless pictures of the drawn world, the held-out triples left out.

    Args:
        styles: drawn from evenly.
        sizes: of the figures, drawn from evenly.
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
    """The caption; "an orange" as often as "a orange"."""
    if rng.random() < 0.5:
        return scene.caption.replace("a orange", "an orange")
    return scene.caption


class FolderPictures:
    """A folder of images, each with a caption in a text file of the same name (`cat.png`, `cat.txt`).

    Raises:
        InputError: the folder holds no captioned image.
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
    """(width, height) of a batch, as often as `SIZES` says."""
    sizes = list(SIZES)
    return sizes[rng.choice(len(sizes), p=list(SIZES.values()))]


def batch_of(count: int, width: int, height: int) -> int:
    """How many pictures of this size cost about as much as `count` of 256x256; at least one."""
    return max(1, count * 256 * 256 // (width * height))


def draw_batch(
    pictures: Pictures, rng: np.random.Generator, count: int, width: int, height: int
) -> tuple[Tensor, list[str]]:
    """`count` pictures as a tensor [count, 3, height, width] in 0..1, and their captions."""
    images, captions = zip(*(pictures.sample(rng, width, height) for _ in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), list(captions)
