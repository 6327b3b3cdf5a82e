"""Pictures that go into the model: IMAGE values, and latents that a sampler changes, with their masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import MAX_SIZE, STEP, Size

from .host import host
from .shown import shown
from .sockets import asked_of, finite, is_numbers

if TYPE_CHECKING:
    from torch import Tensor

MASK_KEY = "noise_mask"
"""Key of a LATENT for its mask, [batch, 1, height, width] in 0..1, as Set Latent Noise Mask writes it."""
POSITIONS = 3
"""Stage C's positions for `STEP` pixels."""
_log = logging.getLogger(__name__)


def _say(*texts: str) -> None:
    """Tell things about the node that runs, on it and in the log; nothing takes what was told before away."""
    host().notice("\n".join(texts))
    for text in texts:
        _log.warning("%s", text)


def images_of(image: Any) -> Tensor:
    """Return an IMAGE as [batch, 3, height, width] in 0..1. A fourth channel, alpha, is dropped, which is shown.

    Raises:
        InputError: It is not an IMAGE, holds values that are not numbers, or is larger than 8192 pixels.
    """
    if not is_numbers(image) or image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or image.numel() == 0:
        raise InputError(
            f"image is {shown(image)}; expected an IMAGE, [batch, height, width, 3] in 0..1, such as Load Image gives."
        )
    height, width = image.shape[1:3]
    if max(height, width) > MAX_SIZE:
        raise InputError(
            f"image has {width} x {height} pixels; expected at most {MAX_SIZE} on a side. Scale it down "
            "first, by Upscale Image."
        )
    pixels = finite(image.float().movedim(-1, 1), "image", "Look at the node before.")
    has_alpha = pixels.shape[1] == 4
    _say(*(["The image is transparent; the colours that are stored there are used."] if has_alpha else []))
    if has_alpha:
        pixels = pixels[:, :3]
    return pixels.expand(-1, 3, -1, -1).clamp(0, 1)


def pixels_of(height: int, width: int) -> tuple[int, int]:
    """Return the width and height in pixels that image embeddings of so many positions cover."""
    return width // POSITIONS * STEP, height // POSITIONS * STEP


def batch_of(latents: Tensor, batch_size: int) -> int:
    """Return the number of images to draw from latents: one each, or `batch_size` from a single one.

    Raises:
        InputError: There are several, and `batch_size` is another number.
    """
    count = len(latents)
    if count > 1 and batch_size not in (1, count):
        raise InputError(
            f"batch_size is {batch_size} and latent holds {count} images; expected 1 or {count}, for one result each."
        )
    return max(count, batch_size)


def mask_of(latent: Mapping[str, Any], width: int, height: int, batch: int, name: str = "latent") -> Tensor | None:
    """Return the mask of a LATENT over its whole size, [batch or 1, 1, height, width]; None if it has none.

    A mask of the size that was asked for is filled up to whole steps; one of another size is stretched, which is shown.

    Args:
        latent: Value of the socket.
        width: Width that the latent covers, in pixels.
        height: Height that the latent covers, in pixels.
        batch: Images to draw.
        name: Name of the node's input, for messages.
    Raises:
        InputError: It is not a mask.
    """
    from wuerstchen_core.images import pad_to_steps

    mask = latent.get(MASK_KEY)
    if mask is None:
        _say()
        return None
    if not is_numbers(mask) or mask.ndim < 2 or mask.numel() == 0:
        raise InputError(
            f"{name} carries a mask that is {shown(mask)}; expected numbers of shape [batch, 1, height, width]. Set it "
            "by Set Latent Noise Mask."
        )
    mask = mask.float().reshape(-1, 1, *mask.shape[-2:])
    finite(mask, f"The mask of {name}", "Look at the node that made it.")
    told = [] if bool(mask.any()) else ["The mask is 0 all over, so the latent stays as it is."]
    asked = asked_of(latent, name) or Size(width, height)
    if asked.rounded != Size(width, height):  # another node has resized the latent
        asked = Size(width, height)
    if tuple(mask.shape[-2:]) == (asked.height, asked.width):
        mask = pad_to_steps(mask)
    elif tuple(mask.shape[-2:]) != (height, width):
        told.append(f"The mask is {mask.shape[-1]}x{mask.shape[-2]}, the picture {asked}; it is stretched to fit.")
    _say(*told)
    return mask if len(mask) == 1 else mask[[index % len(mask) for index in range(batch)]]
