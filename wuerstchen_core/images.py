"""Images and masks as tensors: edges to whole size steps, and a mask on the positions of a latent."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError
from .geometry import Size


def pad_to_steps(images: Tensor) -> Tensor:
    """Repeat the right and the bottom edge of images, up to whole steps of 128 pixels.

    Args:
        images (Tensor): [batch, channels, height, width], of images or masks.
    Returns:
        Tensor: [batch, channels, height, width] with both sides in multiples of 128.
    Raises:
        InputError: A side is 0 or longer than 8192 pixels.
    """
    height, width = images.shape[-2:]
    drawn = Size(width, height).rounded
    if (drawn.height, drawn.width) == (height, width):
        return images
    return F.pad(images, (0, drawn.width - width, 0, drawn.height - height), mode="replicate")


def mask_of_positions(mask: Tensor, height: int, width: int) -> Tensor:
    """Reduce a mask to the positions of a latent: each gets the largest value in its area.

    So a position is drawn anew where any of its pixels is to be.

    Args:
        mask (Tensor): [batch or 1, 1, any height, any width] in 0..1, over the whole latent.
        height: Height of the latent, in positions.
        width: Width of the latent, in positions.
    Returns:
        Tensor: [batch or 1, 1, height, width], float32 in 0..1.
    Raises:
        InputError: The shape or a value does not fit.
    """
    if mask.ndim != 4 or mask.shape[1] != 1 or mask.numel() == 0:
        raise InputError(f"mask has shape {list(mask.shape)}; expected [batch or 1, 1, height, width].")
    values = mask.float()
    if not bool(torch.isfinite(values).all()):
        raise InputError("mask holds values that are not numbers (NaN or infinity); expected 0 (keep) to 1 (draw).")
    return F.adaptive_max_pool2d(values.clamp(0, 1), (height, width))
