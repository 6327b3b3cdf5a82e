"""The image encoder of the embedded model: a small network of the same interface as the published one."""

from dataclasses import dataclass
from math import ceil
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT, PIXELS_PER_STAGE_C, STAGE_C_CHANNELS
from .blocks import ResBlock
from .image_encoder import ImageEncoder

_linalg = cast(Any, torch.linalg)  # torch does not type its functions

PATCH = 8
"""Side in pixels of a position of Stage B's finest level."""
BOUND = 3.0
"""Largest feature, in standard deviations. Rare extremes would decide much of the image at high noise."""


@dataclass(frozen=True)
class CocktailEncoderConfig:
    """Shape of an image encoder of cocktail's kind.

    Attributes:
        c_latent: Channels of the image embeddings.
        widths: Channels after each convolution of stride 2.
        blocks: Residual blocks after the last stride, in which positions see their neighbours.
    """

    c_latent: int = STAGE_C_CHANNELS
    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 8

    @property
    def stride(self) -> int:
        """Pixels of the network's input along one position; they show 42.67 pixels of the image."""
        return 2 ** len(self.widths)


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.SiLU()
    )


class CocktailEncoder(ImageEncoder):
    """Image encoder of the embedded model.

    Args:
        config: Shape of the network.
    Attributes:
        config (CocktailEncoderConfig): Shape of the network.
    """

    def __init__(self, config: CocktailEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CocktailEncoderConfig()
        widths = config.widths
        layers: list[nn.Module] = [
            _convolution(before, after, 2) for before, after in zip((4, *widths), widths, strict=False)
        ]
        layers.append(_convolution(widths[-1], widths[-1], 1))
        layers += [ResBlock(widths[-1]) for _ in range(config.blocks)]
        layers.append(nn.Conv2d(widths[-1], config.c_latent, kernel_size=1))
        self.encoder = nn.Sequential(*layers)
        self.normalise = nn.BatchNorm2d(config.c_latent, affine=False)

    def features(self, images: Tensor) -> Tensor:
        """Encode images to normalised features.

        Args:
            images (Tensor): [batch, 3, height, width] in 0..1, sides in multiples of 128.
        Returns:
            Tensor: [batch, 16, height/42.67, width/42.67] in -3..3, about zero mean and unit variance.
        """
        dtype, device = self._dtype_and_device()
        positions = [ceil(side / PIXELS_PER_STAGE_C) for side in images.shape[-2:]]
        size = [count * self.config.stride for count in positions]
        aligned = _widen(images.to(device).float(), positions)
        x = F.interpolate(aligned, size=size, mode="bilinear", antialias=True) * 2 - 1
        x = torch.cat([x, main_contrast(x)], dim=1).to(dtype)
        x = self.normalise(self.encoder(x.contiguous(memory_format=torch.channels_last))).float()
        return BOUND * torch.tanh(x / BOUND)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) * EMBEDDING_SCALE - EMBEDDING_SHIFT


def _widen(images: Tensor, positions: list[int]) -> Tensor:
    """Repeat the images' edges so that positions lie where Stage B looks for them.

    Stage B enlarges the embeddings with aligned corners: the centre of the first position falls on the centre of the
    first patch of 8x8 pixels, the last one on that of the last patch.

    Args:
        images (Tensor): [batch, 3, height, width].
        positions: Rows and columns of embeddings. A single one sees the image as it is.
    Returns:
        Tensor: [batch, 3, height + 2 * above, width + 2 * beside].
    """
    above, beside = (
        max(0, round(((side - PATCH) * count / (count - 1) - side) / 2)) if count > 1 else 0
        for side, count in zip(images.shape[-2:], positions, strict=True)
    )
    return F.pad(images, (beside, beside, above, above), mode="replicate")


@torch.no_grad()
def main_contrast(images: Tensor) -> Tensor:
    """Return each image's values along the colour axis in which they differ most, its first principal component.

    Args:
        images (Tensor): [batch, channels, height, width].
    Returns:
        Tensor: [batch, 1, height, width], zero mean and unit variance in each image, positive for the rarer side.
    """
    values = images.flatten(2)
    values = values - values.mean(dim=2, keepdim=True)
    axis: Tensor = _linalg.eigh(values @ values.mT).eigenvectors[:, :, -1:]
    line = (values * axis).sum(dim=1, keepdim=True)
    line = line / (line.square().mean(dim=2, keepdim=True).sqrt() + 1e-3)
    line = line * torch.where(line.pow(3).mean(dim=2, keepdim=True) < 0, -1.0, 1.0)
    return line.view(len(images), 1, *images.shape[2:])
