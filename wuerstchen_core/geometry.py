"""Sizes of images and latents.

One step of 128 pixels is 3 positions of Stage C's latent (42.67 pixels each), 32 of Stage B's (4 pixels each).
Every other size is rounded up to whole steps, and the finished image is cropped back.
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
STAGE_B_PER_STAGE_C = 10.67
PIXELS_PER_STAGE_B = 4
STAGE_C_CHANNELS = 16
STAGE_B_CHANNELS = 4


@dataclass(frozen=True)
class Size:
    """An image size in pixels, and the sizes it has in each stage.

    Raises:
        InputError: a side is not a whole number from 1 to 8192.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIZE:
                raise InputError(
                    f"{name} is {value!r}; expected a whole number of pixels from 1 to {MAX_SIZE}. "
                    f"Multiples of {STEP} are drawn without cropping."
                )

    @property
    def rounded(self) -> "Size":
        """This size with each side rounded up to whole steps of 128 pixels."""
        return Size(ceil(self.width / STEP) * STEP, ceil(self.height / STEP) * STEP)

    @property
    def stage_c(self) -> tuple[int, int]:
        """(height, width) of the image embeddings that cover this size."""
        size = self.rounded
        return ceil(size.height / PIXELS_PER_STAGE_C), ceil(size.width / PIXELS_PER_STAGE_C)


def stage_b_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of Stage B's latent for image embeddings of `height` x `width` positions."""
    return int(height * STAGE_B_PER_STAGE_C), int(width * STAGE_B_PER_STAGE_C)
