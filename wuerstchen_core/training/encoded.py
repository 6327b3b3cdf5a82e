# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# safetensors types save_file in part only, and torch from_numpy and tolist.
"""Captioned pictures and texts, encoded once into a folder, so that their encoders need not stay in memory.

Each picture and each text is a file of its own, named by a digest of its content and of the encoder's files. So a run
that was killed goes on where it stopped, and further runs on the same pictures encode nothing.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import InputError
from ..files.pictures import read_picture
from ..files.untrusted import open_file
from ..files.writing import replaced_whole
from ..geometry import STEP
from .captions import Captioned

log = logging.getLogger(__name__)

LONGEST = 4
"""Largest proportion of the sides of a bucket."""
_LOG_EVERY = 30.0
"""Seconds between two lines in the log."""


def buckets(resolution: int) -> list[tuple[int, int]]:
    """List the sizes (width, height) of training pictures: multiples of 128 of about `resolution` squared pixels."""
    found: set[tuple[int, int]] = set()
    side = max(1, round(resolution / STEP))
    for width in range(1, LONGEST * side + 1):
        height = max(1, math.floor(side * side / width + 0.5))
        if max(width, height) <= LONGEST * min(width, height):
            found |= {(width * STEP, height * STEP), (height * STEP, width * STEP)}
    return sorted(found)


def bucket_for(width: int, height: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the size whose proportion is nearest to that of a picture; of equal ones the largest."""
    wanted = math.log(width / height)
    return min(sizes, key=lambda size: (abs(math.log(size[0] / size[1]) - wanted), -size[0] * size[1]))


def fitted(path: Path, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Read a picture, scale it to cover its bucket and crop it evenly.

    Returns:
        Tensor: [1, 3, height, width], float32 in 0..1.
    Raises:
        InputError: It is no picture, or has too many pixels.
    """
    try:
        upright = read_picture(path).convert("RGB")
        size = bucket_for(*upright.size, sizes)
        pixels = np.asarray(ImageOps.fit(upright, size, Image.Resampling.LANCZOS), np.float32) / 255
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture ({error}). Convert it to PNG, or take it out.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def digest(*parts: object) -> str:
    """Return a short digest of files (by content) and other values (by their text)."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with open_file(part) as file:
                while block := file.read(2**20):
                    found.update(block)
        else:
            found.update(repr(part).encode())
        found.update(b"\0")
    return found.hexdigest()[:32]


@dataclass(frozen=True)
class Example:
    """An encoded picture.

    Attributes:
        size: Size of its bucket in pixels, (width, height).
        picture: File of its image embeddings.
        text: File of its caption's text embeddings.
    """

    size: tuple[int, int]
    picture: Path
    text: Path


class Cache:
    """Encoded pictures and texts in a folder.

    Args:
        folder: The folder; made where there is none.
        pictures: Digest of the image encoder and of how pictures are prepared.
        texts: Digest of the text encoder.
    """

    def __init__(self, folder: Path, pictures: str, texts: str) -> None:
        self._folder = folder
        self._pictures, self._texts = pictures, texts

    def picture(self, path: Path, sizes: Sequence[tuple[int, int]]) -> Path:
        """Return the file of a picture's embeddings."""
        return self._folder / "pictures" / f"{digest(self._pictures, path, list(sizes))}.safetensors"

    def text(self, caption: str) -> Path:
        """Return the file of a text's embeddings."""
        return self._folder / "texts" / f"{digest(self._texts, caption)}.safetensors"

    def drawn(self, network: str, prompt: str, seed: int, side: int) -> Path:
        """Return the file of the embeddings that a network, told by its digest, draws for a prompt."""
        name = digest(network, self._texts, prompt, seed, side)
        return self._folder / "drawn" / f"{name}.safetensors"

    def encode_pictures(
        self, given: Sequence[Captioned], sizes: Sequence[tuple[int, int]], encode: Callable[[Tensor], Tensor]
    ) -> list[Example]:
        """Encode the pictures that are not there yet, and list all.

        Args:
            given: Captioned pictures.
            sizes: Sizes of the buckets, from `buckets`.
            encode: Function from pixels [1, 3, height, width] to image embeddings [1, 16, h, w].
        Raises:
            InputError: A file is no picture.
        """
        examples: list[Example] = []
        started = told = time.monotonic()
        for index, (path, caption) in enumerate(given):
            target = self.picture(path, sizes)
            if not target.is_file():
                pixels = fitted(path, sizes)
                write(target, {"value": encode(pixels)[0], "size": torch.tensor([pixels.shape[3], pixels.shape[2]])})
            width, height = _tensor(target, "size").tolist()
            examples.append(Example((width, height), target, self.text(caption)))
            if time.monotonic() - told > _LOG_EVERY:
                told = time.monotonic()
                left = (told - started) / (index + 1) * (len(given) - index - 1) / 60
                log.info("%d of %d pictures encoded, %.1f min left", index + 1, len(given), left)
        return examples

    def encode_texts(self, texts: Iterable[str], encode: Callable[[list[str]], Tensor]) -> None:
        """Encode the texts that are not there yet, by a function from texts to embeddings [count, tokens, dim]."""
        for text in dict.fromkeys(texts):
            if not self.text(text).is_file():
                write(self.text(text), {"value": encode([text])[0]})


def read(path: Path) -> Tensor:
    """Return an encoded picture [16, h, w] or text [tokens, dim]: float32, without the batch."""
    return _tensor(path, "value").float()


def _tensor(path: Path, key: str) -> Tensor:
    try:
        return load_file(path)[key]
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}). Delete it, and it is made anew.") from error


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write an encoded picture or text, as "value"."""
    with replaced_whole(path) as partial:
        try:
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, partial)
        except SafetensorError as error:  # such as a full disk
            raise OSError(str(error)) from error


def draw(examples: Sequence[Example], rng: np.random.Generator, count: int) -> list[Example]:
    """Draw `count` examples of one bucket; every picture is as likely as any other."""
    size = examples[int(rng.integers(len(examples)))].size
    same = [example for example in examples if example.size == size]
    return [same[index] for index in rng.integers(len(same), size=count)]
