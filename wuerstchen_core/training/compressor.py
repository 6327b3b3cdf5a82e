"""The semantic compressor: the small image encoder whose 16-channel output Stage C learns to draw.

The published model uses an EfficientNet here, pretrained on photographs. Ours is trained from nothing, by a throwaway
head that has to redraw the picture from its output.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..blocks import LayerNorm2d, ResBlock
from ..geometry import STAGE_C_CHANNELS, Size
from ..stages import EMBEDDING_SCALE, EMBEDDING_SHIFT

STRIDE = 32
"""Pixels of the compressor's input that become one position; the input is the image at 32/42.67 of its size."""


@dataclass(frozen=True)
class CompressorConfig:
    """widths, depths: channels and residual blocks at stride 8, 16 and 32. channels: of the embeddings."""

    widths: tuple[int, int, int] = (64, 128, 192)
    depths: tuple[int, int, int] = (1, 2, 2)
    channels: int = STAGE_C_CHANNELS


class SemanticCompressor(nn.Module):
    """Image to image embeddings, at one position for 42.67 pixels."""

    def __init__(self, config: CompressorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CompressorConfig()
        layers: list[nn.Module] = [nn.PixelUnshuffle(8), nn.Conv2d(3 * 64, config.widths[0], kernel_size=1)]
        for i, width in enumerate(config.widths):
            if i:
                layers += [LayerNorm2d(config.widths[i - 1]), nn.Conv2d(config.widths[i - 1], width, 2, stride=2)]
            layers += [ResBlock(width) for _ in range(config.depths[i])]
        layers += [LayerNorm2d(config.widths[-1]), nn.Conv2d(config.widths[-1], config.channels, kernel_size=1)]
        self.encoder = nn.Sequential(*layers)
        self.normalise = nn.BatchNorm2d(config.channels, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """[batch, 3, 32h, 32w] in 0..1 -> [batch, 16, h, w], zero mean and unit variance a channel."""
        x = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        return self.normalise(self.encoder(x))

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> image embeddings [batch, 16, h, w] as Stage C returns them."""
        return self(compressor_input(images)) * EMBEDDING_SCALE - EMBEDDING_SHIFT


def compressor_input(images: Tensor) -> Tensor:
    """Resize [batch, 3, height, width] to the compressor's resolution."""
    height, width = Size(images.shape[-1], images.shape[-2]).stage_c
    return F.interpolate(images, size=(height * STRIDE, width * STRIDE), mode="bilinear", antialias=True)


class RedrawingHead(nn.Module):
    """Redraws the picture, at an eighth of the compressor's stride, from its output. Used in training only."""

    WIDTHS, DEPTHS = (192, 128, 64, 32), (2, 2, 1, 1)

    def __init__(self, channels: int = STAGE_C_CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, self.WIDTHS[0], kernel_size=1)]
        for i, width in enumerate(self.WIDTHS):
            if i:
                above = self.WIDTHS[i - 1]
                layers += [LayerNorm2d(above), nn.ConvTranspose2d(above, width, 2, stride=2)]
            layers += [ResBlock(width) for _ in range(self.DEPTHS[i])]
        layers += [LayerNorm2d(self.WIDTHS[-1]), nn.Conv2d(self.WIDTHS[-1], 3, kernel_size=1)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[batch, 16, h, w] -> [batch, 3, 8h, 8w]."""
        return self.decoder(embeddings.contiguous(memory_format=torch.channels_last))
