"""ComfyUI's own nodes for masks, by their ids: Load Image (as Mask), Set Latent Noise Mask, Image Composite Masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from wuerstchen_core.files.pictures import MAX_BYTES, read_picture
from wuerstchen_core.files.untrusted import sha256_of
from wuerstchen_core.geometry import MAX_SIZE

from ...pictures import MASK_KEY
from .images import IMAGE_SUFFIXES, explained
from .input_files import explain_missing, find_input, names_of_inputs

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = ["alpha", "red", "green", "blue"]
LARGEST_OFFSET = 16384
"""Largest x and y of a composite, as in ComfyUI."""


class LoadImageMask:
    """Loads one channel of an image as a mask. Of alpha it is the opposite: 1 where the image is clear."""

    CATEGORY = "mask"
    FUNCTION = "load"
    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": (names_of_inputs(IMAGE_SUFFIXES), {"image_upload": True}),
                "channel": (CHANNELS, {}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, image: Any) -> bool | str:
        return explain_missing(image, MAX_BYTES)

    @classmethod
    def IS_CHANGED(cls, image: str, channel: str) -> str:
        return sha256_of(find_input(image))

    def load(self, image: str, channel: str) -> tuple[Tensor]:
        """Return the mask [1, height, width] in 0..1."""
        with explained(find_input(image)) as path:
            picture = read_picture(path, MAX_SIZE)
            if picture.mode.startswith("I"):  # 16 bits a pixel
                picture = picture.convert("I").point(lambda value: value * (1 / 255))
            values = picture.convert("RGBA").getchannel(channel[0].upper())
        import torch

        mask = torch.from_numpy(numpy.divide(numpy.asarray(values), numpy.float32(255)))[None]
        return (1 - mask if channel == "alpha" else mask,)


class SetLatentNoiseMask:
    """Gives a latent the mask by which samplers know what to draw anew."""

    CATEGORY = "latent/inpaint"
    FUNCTION = "set_mask"
    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"samples": ("LATENT", {}), "mask": ("MASK", {})}}

    def set_mask(self, samples: dict[str, Any], mask: Tensor) -> tuple[dict[str, Any]]:
        return ({**samples, MASK_KEY: mask.reshape(-1, 1, *mask.shape[-2:])},)


class ImageCompositeMasked:
    """Lays one image over another, where a mask is 1."""

    CATEGORY = "image"
    FUNCTION = "composite"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        offset = {"default": 0, "min": 0, "max": LARGEST_OFFSET, "step": 1}
        return {
            "required": {
                "destination": ("IMAGE", {}),
                "source": ("IMAGE", {}),
                "x": ("INT", offset),
                "y": ("INT", offset),
                "resize_source": ("BOOLEAN", {"default": False}),
            },
            "optional": {"mask": ("MASK", {})},
        }

    def composite(
        self, destination: Tensor, source: Tensor, x: int, y: int, resize_source: bool, mask: Tensor | None = None
    ) -> tuple[Tensor]:
        """Return the images [batch, height, width, channels] of `destination` with those of `source` at (x, y)."""
        import torch
        from torch.nn import functional as F

        below, above = (each.movedim(-1, 1) for each in (destination.clone(), source))
        above = _repeated(above, len(below))  # before it is resized: there may be many that nothing needs
        if resize_source:
            above = F.interpolate(above, size=below.shape[-2:], mode="bilinear")
        cover = torch.ones_like(above)
        if mask is not None:
            cover = _repeated(mask.reshape(-1, 1, *mask.shape[-2:]), len(below))
            cover = F.interpolate(cover, size=above.shape[-2:], mode="bilinear")
        height, width = (
            min(mine, max(0, whole - start))
            for mine, whole, start in zip(above.shape[-2:], below.shape[-2:], (y, x), strict=True)
        )
        part = below[..., y : y + height, x : x + width]
        above, cover = (each[..., :height, :width] for each in (above, cover))
        part.copy_(cover * above + (1 - cover) * part)
        return (below.movedim(1, -1),)


def _repeated(values: Tensor, count: int) -> Tensor:
    """Return `count` entries of a batch, from its beginning again where it is shorter."""
    return values[[index % len(values) for index in range(count)]]
