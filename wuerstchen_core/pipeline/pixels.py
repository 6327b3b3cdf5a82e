"""Pictures of Pillow to tensors and back."""

from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files.pictures import TooLargeError, read_picture
from ..files.places import expanded
from ..geometry import MAX_SIZE, Size
from .advice import warn

if TYPE_CHECKING:
    from PIL.Image import Image


def open_picture(picture: "Image | str | PathLike[str]", name: str = "image") -> "Image":
    """Return a picture upright and in memory, in its own mode.

    Args:
        picture: Picture of Pillow, or the path of a file.
        name: Name of the argument, for messages.
    Raises:
        InputError: The file cannot be read as a picture, or it is larger than 8192 pixels.
    """
    from PIL import Image, ImageOps

    if not isinstance(picture, Image.Image):
        try:
            return read_picture(expanded(picture), MAX_SIZE)
        except TooLargeError as error:
            raise InputError(f"{name} is {picture!r}, which is too large: {error}. Make it smaller.") from error
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{name} is {picture!r}, which cannot be read as a picture: {error}. Give a PNG, JPEG or WebP file, or "
                "a PIL.Image."
            ) from error
    if max(picture.size) > MAX_SIZE:
        raise InputError(
            f"{name} has {picture.width} x {picture.height} pixels; expected at most {MAX_SIZE} on a side. Make it "
            "smaller."
        )
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name} is damaged: {error}. Save it again.") from error


def colours_of(picture: "Image") -> "Image":
    """Return a picture in RGB. Transparency is dropped, which is warned of where there is any."""
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        warn(
            "The picture is transparent in places; the colours that are stored there are used. Lay it over a "
            "background if they should not show.",
        )
    return picture.convert("RGB")


def mask_of(picture: "Image", size: Size) -> "Image":
    """Return a mask in gray of a picture's size. One of another size is stretched, which is warned of.

    Args:
        picture: Mask in any mode, of which the brightness counts.
        size: Size of the picture that it is for.
    """
    from PIL import Image

    gray = picture.convert("L")
    if gray.size == (size.width, size.height):
        return gray
    warn(f"The mask is {gray.width}x{gray.height}, the picture {size}; it is stretched to fit.")
    return gray.resize((size.width, size.height), Image.Resampling.BILINEAR)


def to_tensor(picture: "Image") -> Tensor:
    """Convert a picture in RGB or gray to a tensor [1, 3 or 1, height, width], float32 in 0..1."""
    values = torch.as_tensor(np.asarray(picture, dtype=np.float32) / 255)
    return (values[None, None] if values.ndim == 2 else values.movedim(-1, 0)[None]).contiguous()


def to_picture(pixels: Tensor, size: Size) -> "Image":
    """Convert pixels [3, height, width] in 0..1 to a picture in RGB, cropped to `size` from the top left."""
    from PIL import Image

    cropped = pixels[:, : size.height, : size.width].permute(1, 2, 0).mul(255).round().to("cpu", torch.uint8)
    return Image.fromarray(cropped.numpy())
