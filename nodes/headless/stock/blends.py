"""ComfyUI's own nodes that join two images, by their ids: Batch Images and Image Blend."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from wuerstchen_core.errors import InputError
from wuerstchen_core.files.pictures import MAX_FRAMES

if TYPE_CHECKING:
    from torch import Tensor


def _screen(a: Tensor, b: Tensor) -> Tensor:
    return 1 - (1 - a) * (1 - b)


def _overlay(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a * b).where(a <= 0.5, 1 - 2 * (1 - a) * (1 - b))


def _soft_light(a: Tensor, b: Tensor) -> Tensor:
    """Return the blend of the W3C's "Compositing and Blending", section 10.1."""
    curve = (((16 * a - 12) * a + 4) * a).where(a <= 0.25, a.sqrt())
    return (a - (1 - 2 * b) * a * (1 - a)).where(b <= 0.5, a + (2 * b - 1) * (curve - a))


MODES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": lambda a, b: b,
    "multiply": lambda a, b: a * b,
    "screen": _screen,
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": lambda a, b: a - b,
}
"""Name -> function from two images to their blend, 0..1 once clamped. The difference is the first less the second."""


class ImageBatch:
    """Puts the images of two batches into one."""

    CATEGORY = "image"
    FUNCTION = "batch"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image1": ("IMAGE", {}), "image2": ("IMAGE", {})}}

    def batch(self, image1: Tensor, image2: Tensor) -> tuple[Tensor]:
        import torch

        _check_sizes(image1, image2)
        _check_room(image1, image2)
        return (torch.cat([image1, image2]),)


class ImageBlend:
    """Blends two images."""

    CATEGORY = "image/postprocessing"
    FUNCTION = "blend"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image1": ("IMAGE", {}),
                "image2": ("IMAGE", {}),
                "blend_factor": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01}),
                "blend_mode": (list(MODES), {}),
            }
        }

    def blend(self, image1: Tensor, image2: Tensor, blend_factor: float, blend_mode: str) -> tuple[Tensor]:
        _check_sizes(image1, image2)
        blended = MODES[blend_mode](image1, image2)
        return ((image1 * (1 - blend_factor) + blended * blend_factor).clamp(0, 1),)


def _check_sizes(image1: Tensor, image2: Tensor) -> None:
    """Raise InputError where two images differ in size, which ComfyUI would scale and crop."""
    if image1.shape[1:] != image2.shape[1:]:
        sizes = " and ".join(f"{image.shape[2]} x {image.shape[1]}" for image in (image1, image2))
        raise InputError(
            f"The two images are {sizes} pixels; expected one size and the same channels. Scale one of them before."
        )


def _check_room(image1: Tensor, image2: Tensor) -> None:
    """Raise InputError where two batches are together more than a file may hold, so that no graph doubles endlessly."""
    count = len(image1) + len(image2)
    pixels = count * image1.shape[1] * image1.shape[2]
    most = Image.MAX_IMAGE_PIXELS or float("inf")
    if count > MAX_FRAMES or pixels > most:
        raise InputError(
            f"The two batches have {count:,} images and {pixels:,} pixels together; expected at most {MAX_FRAMES:,} "
            f"images and {most:,} pixels. Take fewer or smaller images."
        )
