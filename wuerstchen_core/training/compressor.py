# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# safetensors types its functions in part only.
"""The semantic compressor: the small image encoder whose 16-channel output Stage C learns to sample.

The published model uses an EfficientNet that was pretrained to classify photographs. This one is pretrained on the
captions: one head has to read their words from its output, another one has to decode the image from an enlarged map,
the form in which Stage B will see it. Embeddings that both can read are smooth in space, so a small error in them is a
small change of the image.
"""

from math import ceil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry import PIXELS_PER_STAGE_C, STAGE_C_CHANNELS
from ..networks.blocks import ResBlock
from ..stages import EMBEDDING_SCALE, EMBEDDING_SHIFT

_linalg = cast(Any, torch.linalg)  # torch does not type its functions

STRIDE = 16
"""Pixels of the compressor's input along one position. The input is the image at 16/42.67 of its size."""
WIDTHS = (32, 64, 96, 128)
"""Channels at stride 2, 4, 8 and 16."""
PATCH = 8
"""Side in pixels of a position of Stage B's finest level."""
BOUND = 3.0
"""Largest embedding, in standard deviations. Rare extremes would decide much of the image at high noise."""
WEIGHTS = "model.safetensors"
"""Name of the weights file."""
ENLARGED = 3
"""Positions of the redrawing head along one position of the compressor; each becomes 4x4 pixels."""


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.SiLU(),
    )


class SemanticCompressor(nn.Module):
    """Encoder of images to image embeddings, one position for 42.67x42.67 pixels.

    Args:
        blocks: Residual blocks after the last stride, in which positions see their neighbours. The compressor that
            comes with the package has none, and its positions are not aligned with those of Stage B.
    """

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.blocks = blocks
        layers: list[nn.Module] = []
        for before, width in zip((4, *WIDTHS), WIDTHS, strict=False):
            layers.append(_convolution(before, width, 2))
        layers.append(_convolution(WIDTHS[-1], WIDTHS[-1], 1))
        layers += [ResBlock(WIDTHS[-1]) for _ in range(blocks)]
        layers.append(nn.Conv2d(WIDTHS[-1], STAGE_C_CHANNELS, kernel_size=1))
        self.encoder = nn.Sequential(*layers)
        self.normalise = nn.BatchNorm2d(STAGE_C_CHANNELS, affine=False)

    def features(self, images: Tensor) -> Tensor:
        """Encode images to normalised features.

        Args:
            images (Tensor): [batch, 3, height, width] in 0..1.
        Returns:
            Tensor: [batch, 16, height/42.67, width/42.67] in -3..3, about zero mean and unit variance.
        """
        positions = [ceil(side / PIXELS_PER_STAGE_C) for side in images.shape[-2:]]
        aligned = _widen(images, positions) if self.blocks else images
        x = F.interpolate(aligned, size=[count * STRIDE for count in positions], mode="bilinear", antialias=True)
        x = x * 2 - 1
        x = torch.cat([x, main_contrast(x)], dim=1)
        x = self.normalise(self.encoder(x.contiguous(memory_format=torch.channels_last)))
        return BOUND * torch.tanh(x / BOUND)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode images to image embeddings, in the scale of Stage C's result.

        Args:
            images (Tensor): [batch, 3, height, width] in 0..1.
        Returns:
            Tensor: [batch, 16, height/42.67, width/42.67].
        """
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


def load_compressor(folder: Path) -> SemanticCompressor:
    """Load the compressor that `save_compressor` wrote, in eval mode, without gradients."""
    state = load_file(folder / WEIGHTS)
    compressor = SemanticCompressor(blocks=sum(key.endswith("depthwise.weight") for key in state))
    compressor.load_state_dict(state)
    return compressor.eval().requires_grad_(False)


def save_compressor(compressor: SemanticCompressor, folder: Path, dtype: torch.dtype) -> None:
    """Write the compressor's weights, for later training of stages that were trained with it.

    Args:
        compressor: Network to save.
        folder: Folder to write to; made where there is none.
        dtype: Dtype of the stored weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = compressor.state_dict()
    save_file(
        {key: each.to(dtype) if each.is_floating_point() else each for key, each in state.items()}, folder / WEIGHTS
    )


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


class ReadingHeads(nn.Module):
    """Heads of the compressor in training: one reads the caption's words, the other one decodes the image.

    Args:
        words: Size of the vocabulary.
        width: Width of the decoding head.
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
        """Read words and image from features.

        Args:
            features (Tensor): [batch, 16, h, w].
        Returns:
            tuple[Tensor, Tensor]: Logits of the words [batch, words], and images [batch, 3, 12h, 12w], about 0..1.
        """
        seen = self.look(features)
        words = self.tell(torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1))
        size = [side * ENLARGED for side in features.shape[-2:]]
        enlarged = F.interpolate(features, size=size, mode="bicubic", antialias=True, align_corners=True)
        return words, self.redraw(enlarged.contiguous(memory_format=torch.channels_last))
