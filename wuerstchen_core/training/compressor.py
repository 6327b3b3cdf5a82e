"""The semantic compressor: the small image encoder whose 16-channel output Stage C learns to draw.

The published model uses an EfficientNet that was pretrained to name what photographs show. Ours is pretrained in the
same spirit, on the captions: one head has to tell their words from its output, another to redraw the picture in the
way Stage B will see it, from an enlarged map. What both can read is smooth in space and means the same everywhere in a
position, so a small error in it is a small change of the picture.
"""

from math import ceil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import PIXELS_PER_STAGE_C, STAGE_C_CHANNELS
from ..networks.blocks import ResBlock
from ..stages import EMBEDDING_SCALE, EMBEDDING_SHIFT

STRIDE = 16
"""Pixels of the compressor's input that become one position; the input is the image at 16/42.67 of its size."""
WIDTHS = (32, 64, 96, 128)
"""Channels at stride 2, 4, 8 and 16."""
BOUND = 3.0
"""Embeddings are held within so many standard deviations, or their rare extremes would be decided in most noise."""
WEIGHTS = "model.safetensors"
ENLARGED = 3
"""Positions of the redrawing head, a side, for one of the compressor's; each of them becomes 4x4 pixels."""


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.SiLU(),
    )


class SemanticCompressor(nn.Module):
    """Image to image embeddings, one position for 42.67 pixels a side."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((4, *WIDTHS), WIDTHS, strict=False):
            layers.append(_convolution(before, width, 2))
        layers += [_convolution(WIDTHS[-1], WIDTHS[-1], 1), nn.Conv2d(WIDTHS[-1], STAGE_C_CHANNELS, kernel_size=1)]
        self.encoder = nn.Sequential(*layers)
        self.normalise = nn.BatchNorm2d(STAGE_C_CHANNELS, affine=False)

    def features(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> [batch, 16, h, w], about zero mean and unit variance, within BOUND."""
        size = [ceil(side / PIXELS_PER_STAGE_C) * STRIDE for side in images.shape[-2:]]
        x = F.interpolate(images, size=size, mode="bilinear", antialias=True) * 2 - 1
        x = torch.cat([x, main_contrast(x)], dim=1)
        x = self.normalise(self.encoder(x.contiguous(memory_format=torch.channels_last)))
        return BOUND * torch.tanh(x / BOUND)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> image embeddings [batch, 16, h, w] as Stage C returns them."""
        return self.features(images) * EMBEDDING_SCALE - EMBEDDING_SHIFT


def load_compressor(folder: Path) -> SemanticCompressor:
    """The compressor that `save_compressor` wrote, ready to encode."""
    compressor = SemanticCompressor()
    compressor.load_state_dict(load_file(folder / WEIGHTS))
    return compressor.eval().requires_grad_(False)


def save_compressor(compressor: SemanticCompressor, folder: Path, dtype: torch.dtype) -> None:
    """Write the compressor's weights to a folder, so that training can go on from what was trained with it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = compressor.state_dict()
    save_file(
        {key: each.to(dtype) if each.is_floating_point() else each for key, each in state.items()}, folder / WEIGHTS
    )


@torch.no_grad()
def main_contrast(images: Tensor) -> Tensor:
    """What a picture shows, whatever its colours: its values along the axis of colour in which they differ most.

    Args:
        images: [batch, channels, height, width].
    Returns:
        [batch, 1, height, width], zero mean and unit variance in each picture, the rarer side positive.
    """
    values = images.flatten(2)
    values = values - values.mean(dim=2, keepdim=True)
    axis = torch.linalg.eigh(values @ values.mT).eigenvectors[:, :, -1:]
    line = (values * axis).sum(dim=1, keepdim=True)
    line = line / (line.square().mean(dim=2, keepdim=True).sqrt() + 1e-3)
    line = line * torch.where(line.pow(3).mean(dim=2, keepdim=True) < 0, -1.0, 1.0)
    return line.view(len(images), 1, *images.shape[2:])


class ReadingHeads(nn.Module):
    """What the compressor is trained with and then does without: one head tells words, one redraws the picture.

    Args:
        words: size of the vocabulary.
    """

    def __init__(self, words: int, width: int = 64) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(STAGE_C_CHANNELS, 2 * width, kernel_size=1), nn.GELU())
        self.tell = nn.Linear(width * 4, words)
        self.redraw = nn.Sequential(
            nn.Conv2d(STAGE_C_CHANNELS, width, kernel_size=1),
            ResBlock(width),
            ResBlock(width),
            nn.Conv2d(width, 3 * 4**2, kernel_size=1),
            nn.PixelShuffle(4),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, 16, h, w] -> logits of words [batch, words], and a picture [batch, 3, 12h, 12w]."""
        seen = self.look(features)
        words = self.tell(torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1))
        size = [side * ENLARGED for side in features.shape[-2:]]
        enlarged = F.interpolate(features, size=size, mode="bicubic", antialias=True, align_corners=True)
        return words, self.redraw(enlarged.contiguous(memory_format=torch.channels_last))
