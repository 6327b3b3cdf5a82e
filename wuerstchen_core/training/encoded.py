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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import InputError
from ..files.pictures import read_picture
from ..files.untrusted import open_file, size_text
from ..files.writing import replaced_whole
from ..geometry import STAGE_C_CHANNELS, STEP, Size
from .captions import Captioned

log = logging.getLogger(__name__)

LONGEST = 4
"""Largest proportion of the sides of a bucket."""
MAX_PICTURE_BYTES = 2**30
"""Largest file of a picture."""
_DTYPES = ("F64", "F32", "F16", "BF16")
"""Types of encoded pictures and texts."""
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


def digest_of(given: Sequence[Captioned]) -> str:
    """Return a short digest of captioned pictures. A file that is named several times is read once.

    Raises:
        InputError: A picture cannot be read, or has more than MAX_PICTURE_BYTES bytes.
    """
    parts: list[object] = []
    first: dict[tuple[int, int], int] = {}
    try:
        for index, (path, caption) in enumerate(given):
            there = first.setdefault(_identity(path), index)
            parts += [path if there == index else there, caption]
        return digest(*parts)
    except OSError as error:
        raise InputError(
            f"{error.filename or 'A picture'} cannot be read: {error.strerror or error}. Check the file and its "
            "permissions, or take it out."
        ) from error


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from all others, by whatever path it is named. Raises: InputError; OSError."""
    facts = path.stat()
    if facts.st_size > MAX_PICTURE_BYTES:
        raise InputError(
            f"{path} has {facts.st_size:,} bytes; expected a picture of at most {size_text(MAX_PICTURE_BYTES)}. "
            "Make it smaller, or take it out."
        )
    return facts.st_dev, facts.st_ino


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
            InputError: A file is no picture, or what was encoded of it is damaged.
        """
        examples: list[Example] = []
        found: dict[tuple[int, int], tuple[tuple[int, int], Path]] = {}
        started = told = time.monotonic()
        for index, (path, caption) in enumerate(given):
            file = _identity(path)
            if file not in found:
                found[file] = self._encoded_picture(path, sizes, encode)
            examples.append(Example(*found[file], self.text(caption)))
            if time.monotonic() - told > _LOG_EVERY:
                told = time.monotonic()
                left = (told - started) / (index + 1) * (len(given) - index - 1) / 60
                log.info("%d of %d pictures encoded, %.1f min left", index + 1, len(given), left)
        return examples

    def _encoded_picture(
        self, path: Path, sizes: Sequence[tuple[int, int]], encode: Callable[[Tensor], Tensor]
    ) -> tuple[tuple[int, int], Path]:
        """Return the size of a picture's bucket, and the file of its embeddings."""
        target = self.picture(path, sizes)
        if not target.is_file():
            pixels = fitted(path, sizes)
            write(target, {"value": encode(pixels)[0], "size": torch.tensor([pixels.shape[3], pixels.shape[2]])})
        kept = _tensor(target, "size")
        size = next((size for size in sizes if kept.numel() == 2 and list(size) == kept.flatten().tolist()), None)
        if size is None:
            raise InputError(_damaged(target, "its size is no width and height of a bucket"))
        check_picture(target, size)
        return size, target

    def encode_texts(self, texts: Iterable[str], encode: Callable[[list[str]], Tensor]) -> None:
        """Encode the texts that are not there yet, by a function from texts to embeddings [count, tokens, dim]."""
        for text in dict.fromkeys(texts):
            if not self.text(text).is_file():
                write(self.text(text), {"value": encode([text])[0]})

    def check_texts(self, texts: Iterable[str], dim: int) -> None:
        """Check that encoded texts have vectors of `dim` numbers, and as many of them as most others.

        Raises:
            InputError: One is damaged, or was encoded for another network.
        """
        shapes = {path: _shape(path) for path in dict.fromkeys(map(self.text, texts))}
        for path, shape in shapes.items():
            if len(shape) != 2 or shape[0] < 1 or shape[1] != dim:
                raise InputError(
                    f"{path} has the shape {shape}; expected [tokens, {dim}], as the network reads. Where it is "
                    "damaged, delete it, and it is made anew; or choose the encoders that go with the model."
                )
        usual = Counter(shape[0] for shape in shapes.values()).most_common(1)[0][0]
        for path, shape in shapes.items():
            if shape[0] != usual:
                raise InputError(_damaged(path, f"it has {shape[0]} tokens; expected {usual}, as others have"))


def read(path: Path) -> Tensor:
    """Return an encoded picture [16, h, w] or text [tokens, dim]: float32, without the batch."""
    return _tensor(path, "value").float()


def check_picture(path: Path, size: tuple[int, int]) -> None:
    """Check that an encoded picture has the shape of those of its size in pixels, (width, height).

    Raises:
        InputError: It is damaged.
    """
    shape, expected = _shape(path), [STAGE_C_CHANNELS, *Size(*size).stage_c]
    if shape != expected:
        raise InputError(_damaged(path, f"it has the shape {shape}; expected {expected}"))


def _shape(path: Path) -> list[int]:
    """Return the shape of an encoded picture or text, which is not read."""
    try:
        with safe_open(path, "pt") as file:
            value = file.get_slice("value")
            shape, dtype = list(value.get_shape()), str(value.get_dtype())
    except SafetensorError as error:
        raise InputError(_damaged(path, error)) from error
    if dtype not in _DTYPES:
        raise InputError(_damaged(path, f"it has the type {dtype}; expected one of {', '.join(_DTYPES)}"))
    return shape


def _tensor(path: Path, key: str) -> Tensor:
    try:
        return load_file(path)[key]
    except (SafetensorError, KeyError) as error:
        raise InputError(_damaged(path, error)) from error


def _damaged(path: Path, why: object) -> str:
    return f"{path} is damaged ({why}). Delete it, and it is made anew."


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
