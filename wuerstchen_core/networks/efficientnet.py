"""The published image encoder: the features of EfficientNetV2-S, mapped to 16 normalised channels.

Source: Tan & Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, table 4; module names are those of
the published checkpoint, whose backbone is torchvision's `efficientnet_v2_s(...).features`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .image_encoder import ImageEncoder

SHRINK = 4, 3
"""Pixels of a picture, and pixels of the encoder's input along the same length: 1024 become 768."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels, which the backbone expects to be taken out."""
EPSILON = 1e-3
"""Epsilon of the backbone's batch normalizations."""


class Group(NamedTuple):
    """A row of EfficientNetV2's table: blocks of one kind and width.

    Attributes:
        fused: Whether one 3x3 convolution stands for the 1x1 and the depthwise one.
        expansion: Width inside a block, as a multiple of its input's.
        stride: Stride of the first block.
        width: Channels of the output.
        blocks: Number of blocks.
    """

    fused: bool
    expansion: int
    stride: int
    width: int
    blocks: int


SMALL = (
    Group(True, 1, 1, 24, 2),
    Group(True, 4, 2, 48, 4),
    Group(True, 4, 2, 64, 4),
    Group(False, 4, 2, 128, 6),
    Group(False, 6, 1, 160, 9),
    Group(False, 6, 2, 256, 15),
)
"""Groups of the small variant."""
FIRST_WIDTH = 24
"""Channels of the first convolution."""


@dataclass(frozen=True)
class EfficientNetEncoderConfig:
    """Shape of a published image encoder. Field names are those of the published config.json.

    Attributes:
        c_latent: Channels of the image embeddings.
        c_cond: Channels of the backbone's features.
        effnet: Name of the backbone; the small variant of EfficientNetV2 is the only one.
    """

    c_latent: int = 16
    c_cond: int = 1280
    effnet: str = "efficientnet_v2_s"

    @classmethod
    def v2(cls) -> "EfficientNetEncoderConfig":
        """Return the shape of the published encoder, 20 M parameters (warp-ai/EfficientNetEncoder, config.json)."""
        return cls()


def _convolution(
    before: int, after: int, size: int, stride: int = 1, *, groups: int = 1, activated: bool = True
) -> nn.Sequential:
    """Return a convolution that keeps the size, its normalization, and SiLU where it is activated."""
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after, eps=EPSILON),
    ]
    return nn.Sequential(*layers, *([nn.SiLU()] if activated else []))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a factor in 0..1 that depends on the means of all channels (Hu et al., 2018).

    Args:
        channels: Channels of the feature map.
        squeezed: Width between the two layers.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map, [batch, channels, height, width]."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * self.fc2(F.silu(self.fc1(mean))).sigmoid()


class Bottleneck(nn.Module):
    """Block of EfficientNetV2: MBConv, or its fused form.

    Args:
        group: Row of the table.
        before: Channels of the input.
        stride: Stride of the 3x3 convolution. With 1, and as many channels as before, the input is added.
    """

    def __init__(self, group: Group, before: int, stride: int) -> None:
        super().__init__()
        after, inside = group.width, before * group.expansion
        if group.fused and group.expansion == 1:
            layers = [_convolution(before, after, 3, stride)]
        elif group.fused:
            layers = [_convolution(before, inside, 3, stride), _convolution(inside, after, 1, activated=False)]
        else:
            layers = [
                _convolution(before, inside, 1),
                _convolution(inside, inside, 3, stride, groups=inside),
                SqueezeExcitation(inside, max(1, before // 4)),
                _convolution(inside, after, 1, activated=False),
            ]
        self.block = nn.Sequential(*layers)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, [batch, width, height/stride, width/stride]."""
        return x + self.block(x) if self.adds else self.block(x)


def _blocks(group: Group, before: int) -> nn.Sequential:
    """Return the blocks of a group; the first one changes the size and the width."""
    first = Bottleneck(group, before, group.stride)
    return nn.Sequential(first, *(Bottleneck(group, group.width, 1) for _ in range(group.blocks - 1)))


class EfficientNetEncoder(ImageEncoder):
    """Image encoder of the published checkpoints.

    Args:
        config: Shape of the network.
    Attributes:
        config (EfficientNetEncoderConfig): Shape of the network.
    """

    def __init__(self, config: EfficientNetEncoderConfig) -> None:
        super().__init__()
        self.config = config
        widths = [FIRST_WIDTH, *(group.width for group in SMALL)]
        self.backbone = nn.Sequential(
            _convolution(3, FIRST_WIDTH, 3, 2),
            *(_blocks(group, before) for group, before in zip(SMALL, widths, strict=False)),
            _convolution(widths[-1], config.c_cond, 1),
        )
        self.mapper = nn.Sequential(
            nn.Conv2d(config.c_cond, config.c_latent, 1, bias=False),
            nn.BatchNorm2d(config.c_latent),
        )

    def forward(self, images: Tensor) -> Tensor:
        dtype, device = self._dtype_and_device()
        height, width = (side * SHRINK[1] // SHRINK[0] for side in images.shape[-2:])
        x = F.interpolate(images.to(device).float(), size=[height, width], mode="bilinear", antialias=True)
        mean, deviation = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (MEAN, DEVIATION))
        x = ((x - mean) / deviation).to(dtype).contiguous(memory_format=torch.channels_last)
        return self.mapper(self.backbone(x)).float()
