"""Sizes and scales of images and latents.

A step of 128 pixels is 3 positions of Stage C's latent (42.67 pixels each) and 32 positions of Stage B's (4 pixels
each). Other sizes are rounded up to whole steps, and the finished image is cropped back.
Source: `resolution_multiple` 42.67 and `latent_dim_scale` 10.67 of the published pipelines.
"""

from dataclasses import dataclass
from math import ceil

from .errors import InputError

STEP = 128
"""Pixels in one size step."""
MAX_SIZE = 8192
"""Largest side of an image, in pixels."""
PIXELS_PER_STAGE_C = 42.67
"""Pixels of the image along one position of Stage C's latent."""
STAGE_B_PER_STAGE_C = 10.67
"""Positions of Stage B's latent along one position of Stage C's."""
STAGE_C_CHANNELS = 16
"""Channels of Stage C's latent, the image embeddings."""
STAGE_B_CHANNELS = 4
"""Channels of Stage B's latent."""
EMBEDDING_SCALE = 42.0
"""Factor from the x that Stage C samples to image embeddings, which are x * 42 - 1 (latent_mean in diffusers)."""
EMBEDDING_SHIFT = 1.0
"""Number subtracted after the factor (latent_std in diffusers)."""


@dataclass(frozen=True)
class Size:
    """Size of an image, and of its latents. Its string is "512x768", width first.

    Attributes:
        width: Pixels, 1 to 8192.
        height: Pixels, 1 to 8192.
    Raises:
        InputError: A side is not a whole number from 1 to 8192.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if type(value) is not int or not 1 <= value <= MAX_SIZE:
                raise InputError(
                    f"{name} is {value!r}; expected a whole number of pixels from 1 to {MAX_SIZE}. "
                    f"Multiples of {STEP} are drawn without cropping."
                )

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def rounded(self) -> "Size":
        """This size with each side rounded up to whole steps of 128 pixels."""
        return Size(ceil(self.width / STEP) * STEP, ceil(self.height / STEP) * STEP)

    @property
    def stage_c(self) -> tuple[int, int]:
        """Height and width of the image embeddings that cover this size, in positions."""
        size = self.rounded
        return ceil(size.height / PIXELS_PER_STAGE_C), ceil(size.width / PIXELS_PER_STAGE_C)


def stage_b_size(height: int, width: int) -> tuple[int, int]:
    """Return the height and width of Stage B's latent.

    Args:
        height: Height of the image embeddings, in positions.
        width: Width of the image embeddings, in positions.
    """
    return int(height * STAGE_B_PER_STAGE_C), int(width * STAGE_B_PER_STAGE_C)
