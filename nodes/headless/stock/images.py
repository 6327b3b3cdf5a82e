"""ComfyUI's own image nodes, by their ids: Save Image, Preview Image, Load Image."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from wuerstchen_core.errors import InputError
from wuerstchen_core.files.pictures import MAX_BYTES, TooLargeError, read_frames
from wuerstchen_core.files.untrusted import sha256_of
from wuerstchen_core.geometry import MAX_SIZE

from ..execution.packing import Array
from ..host import current
from ..output_files import OutputFiles
from .input_files import explain_missing, find_input, names_of_inputs

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "unique_id": "UNIQUE_ID"}
"""Hidden inputs of every node that saves."""
_log = logging.getLogger(__name__)
_ROWS = 256
"""Rows of a picture that are converted at a time."""
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class SaveImage:
    """Saves images as PNG, with the workflow inside."""

    CATEGORY = "image"
    FUNCTION = "save"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    READS_ARRAYS = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"images": ("IMAGE", {}), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": HIDDEN,
        }

    def save(
        self,
        images: Tensor | Array,
        filename_prefix: str,
        prompt: Any = None,
        extra_pnginfo: Any = None,
        unique_id: str = "",
    ) -> dict[str, Any]:
        texts = metadata_texts(prompt, extra_pnginfo)
        saved = _save_all(current().files, images, filename_prefix, texts, unique_id)
        return {"ui": {"images": [{**each, "type": "output"} for each in saved]}}


class PreviewImage:
    """Saves images to a temporary folder, which the log names."""

    CATEGORY = "image"
    FUNCTION = "save"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    READS_ARRAYS = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE", {})}, "hidden": HIDDEN}

    def save(
        self, images: Tensor | Array, prompt: Any = None, extra_pnginfo: Any = None, unique_id: str = ""
    ) -> dict[str, Any]:
        files = current().preview_files()
        saved = _save_all(files, images, "preview", metadata_texts(prompt, extra_pnginfo), unique_id)
        for each in saved:
            _log.info("Preview: %s", files.folder / each["filename"])
        return {"ui": {"images": [{**each, "type": "temp"} for each in saved]}}


class LoadImage:
    """Loads an image by its path, or by its name in the input folders."""

    CATEGORY = "image"
    FUNCTION = "load"
    RETURN_TYPES = ("IMAGE", "MASK")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": (names_of_inputs(IMAGE_SUFFIXES), {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: Any) -> bool | str:
        return explain_missing(image, MAX_BYTES)

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        return sha256_of(find_input(image))

    def load(self, image: str) -> tuple[Tensor, Tensor]:
        """Return the image [frames, height, width, 3] in 0..1 and its transparency [frames, height, width], 1 clear."""
        import torch

        with explained(find_input(image)) as path:
            frames = read_frames(path, MAX_SIZE)
            frames = [frame for frame in frames if frame.size == frames[0].size]
            width, height = frames[0].size
            images = numpy.empty((len(frames), height, width, 3), numpy.float32)
            masks = numpy.zeros((len(frames), height, width), numpy.float32)
            for index, frame in enumerate(frames):
                for top, part in _parts(frame):
                    rows = index, slice(top, top + part.height)
                    _read_pixels(part, images[rows], masks[rows])
        return torch.from_numpy(images), torch.from_numpy(masks)


@contextmanager
def explained(path: Path) -> Iterator[Path]:
    """Yield the path of a picture to be read while the context lasts.

    Raises:
        InputError: It cannot be read, or has so many pixels or frames that it may be an attack.
    """
    try:
        yield path
    except TooLargeError as error:
        raise InputError(f"{path} is too large an image: {error}. Make it smaller first.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as an image: {reason}. Save it as PNG, JPEG or WebP.") from error


def metadata_texts(prompt: Any, extra_pnginfo: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the texts by which a saved file carries its workflow: "prompt", and every entry of `extra_pnginfo`."""
    texts = {} if prompt is None else {"prompt": json.dumps(prompt)}
    return texts | {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}


def _parts(frame: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield (top, part) of some rows of a picture at a time: whole, it would be in memory once more at every step."""
    for top in range(0, frame.height, _ROWS):
        yield top, frame.crop((0, top, frame.width, min(frame.height, top + _ROWS)))


def _read_pixels(part: Image.Image, rgb: Array, clear: Array) -> None:
    """Write the pixels of a part of a picture to `rgb`, and its transparency, if it has any, to `clear`."""
    if part.mode.startswith("I"):  # 16 bits a pixel
        part = part.convert("I").point(lambda value: value * (1 / 255))
    numpy.divide(numpy.asarray(part.convert("RGB")), numpy.float32(255), out=rgb)
    if "A" in part.getbands() or "transparency" in part.info:
        alpha = numpy.asarray(part.convert("RGBA").getchannel("A"))
        numpy.subtract(1, numpy.divide(alpha, numpy.float32(255), dtype=numpy.float32), out=clear)


def _save_all(
    files: OutputFiles, images: Tensor | Array, prefix: str, texts: Mapping[str, str], node_id: str
) -> list[dict[str, str]]:
    """Save images [batch, height, width, channels] in 0..1, and return {"filename", "subfolder"} of each."""
    saved = []
    for number, image in enumerate(_array_of(images)):
        name = _filled(prefix, image).replace("%batch_num%", str(number))
        saved.append(files.reference(files.save(_png(image, texts), name, node_id=node_id)))
    return saved


def _array_of(images: Tensor | Array) -> Array:
    return images if isinstance(images, numpy.ndarray) else images.cpu().float().numpy()


def _png(image: Array, texts: Mapping[str, str]) -> bytes:
    pixels = numpy.empty(image.shape, numpy.uint8)
    for top in range(0, len(image), _ROWS):  # whole, it would be in memory three times
        rows = slice(top, top + _ROWS)
        pixels[rows] = (image[rows] * numpy.float32(255)).clip(0, 255)
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def _filled(prefix: str, image: Array) -> str:
    """Replace %width%, %height%, %year%, ... in a file name."""
    now = datetime.now()
    values = {"width": image.shape[1], "height": image.shape[0], "year": now.year}
    values |= {name: f"{getattr(now, name):02}" for name in ("month", "day", "hour", "minute", "second")}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", str(value))
    return prefix
