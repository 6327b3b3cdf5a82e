"""Stage A, the VQGAN: decodes a 4-channel latent, a quarter of the image's side, to pixels ("vqgan" in diffusers)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import LayerNorm2d, Operations, gelu, is_plain, may_fold, to_channels_first, to_channels_last

POSITIONS_AT_ONCE = 4096
"""That a block computes at once on the CPU: its widest map is 12 MB at the published width in bfloat16."""


@dataclass(frozen=True)
class StageAConfig:
    """Shape of a Stage A network. Field names are those of the published config.json.

    in_channels, out_channels: of the image. up_down_scale_factor: side of the pixel patch that becomes one position.
    levels: halvings of the size, the patch counted. bottleneck_blocks: residual blocks at the smallest size.
    embed_dim: width there, halved at each finer level. latent_channels: of the latent. num_vq_embeddings: size of the
    codebook. scale_factor: Stage B's latents are multiplied by it to become Stage A's.
    """

    in_channels: int = 3
    out_channels: int = 3
    up_down_scale_factor: int = 2
    levels: int = 2
    bottleneck_blocks: int = 12
    embed_dim: int = 384
    latent_channels: int = 4
    num_vq_embeddings: int = 8192
    scale_factor: float = 0.3764

    @classmethod
    def v2(cls) -> "StageAConfig":
        """The published VQGAN, 18 M parameters (warp-ai/wuerstchen, vqgan/config.json)."""
        return cls()


class MixingResidualBlock(nn.Module):
    """Depthwise convolution and a bottleneck over the channels, each behind a modulated norm and a learned gate."""

    def __init__(self, channels: int, hidden_channels: int, operations: Operations = nn) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.depthwise = nn.Sequential(
            nn.ReplicationPad2d(1), operations.Conv2d(channels, channels, 3, groups=channels)
        )
        self.norm2 = LayerNorm2d(channels)
        self.channelwise = nn.Sequential(
            operations.Linear(channels, hidden_channels), nn.GELU(), operations.Linear(hidden_channels, channels)
        )
        self.gammas = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, channels, height, width]."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.gammas.to(x)
        x = x + self.depthwise(self.norm1(x) * (1 + scale1) + shift1) * gate1
        h = to_channels_last(self.norm2(x) * (1 + scale2) + shift2)
        return x + to_channels_first(self.channelwise(h)) * gate2


@dataclass(frozen=True)
class FoldedBlock:
    """A MixingResidualBlock with its six gammas folded into its layers, to compute with and not to train.

    depthwise, widen, narrow: weight and bias of a layer, in the order they run.
    """

    depthwise: tuple[Tensor, Tensor]
    widen: tuple[Tensor, Tensor]
    narrow: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, block: MixingResidualBlock) -> "FoldedBlock":
        """Folded in float32; the result has the dtype of the block's weights."""
        scale1, shift1, gate1, scale2, shift2, gate2 = block.gammas.float()
        layers = (block.depthwise[1], block.channelwise[0], block.channelwise[2])
        (w1, b1), (w2, b2), (w3, b3) = (
            (layer.get_parameter("weight").float(), layer.get_parameter("bias").float()) for layer in layers
        )
        folded = (
            # The padding repeats the edge, so that a shift before it comes out the same at every position.
            (w1 * (1 + scale1) * gate1, (b1 + shift1 * w1.sum(dim=(1, 2, 3))) * gate1),
            (w2 * (1 + scale2), b2 + shift2 * w2.sum(dim=1)),
            (w3 * gate2, b3 * gate2),
        )
        return cls(*((weight.to(block.gammas.dtype), bias.to(block.gammas.dtype)) for weight, bias in folded))

    def __call__(self, x: Tensor) -> Tensor:
        """x, overwritten: [batch, channels, height, width].

        On the CPU a band of rows goes through the whole block before the next, so that all that is between stays in
        cache. The widest map has its memory once: the system takes its time to find so much anew for every band.
        """
        batch, channels, height, width = x.shape
        rows = min(height, max(1, POSITIONS_AT_ONCE // (batch * width))) if x.device.type == "cpu" else height
        (widen, widen_bias), (narrow, narrow_bias) = self.widen, self.narrow
        wide = x.new_empty(batch * rows * width, len(widen))
        above: Tensor | None = None  # the band's upper neighbour, as it was before it was overwritten
        for top in range(0, height, rows):
            bottom = top + rows
            h = to_channels_first(_norm(to_channels_last(x[:, :, top : bottom + 1])))
            last = h[:, :, rows - 1 : rows]
            if above is not None:
                h = torch.cat([above, h], dim=2)
            h = F.pad(h, (1, 1, int(above is None), int(bottom >= height)), mode="replicate")
            above = last
            band = to_channels_last(x[:, :, top:bottom].add_(F.conv2d(h, *self.depthwise, groups=channels)))
            h = _norm(band).flatten(0, 2)
            h = gelu(torch.addmm(widen_bias, h, widen.t(), out=wide[: len(h)]))
            band.add_(torch.addmm(narrow_bias, h, narrow.t()).view_as(band))
        return x


def _norm(x: Tensor) -> Tensor:
    """[batch, height, width, channels], over the channels."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class VectorQuantizer(nn.Module):
    """The codebook that training snaps latents to; decoding in this model uses the latents as they are."""

    def __init__(self, num_embeddings: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, channels)

    def forward(self, latents: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the nearest codebook vector at each position, same shape."""
        flat = to_channels_last(latents).flatten(0, 2)
        nearest = torch.cdist(flat, self.embedding.weight).argmin(dim=1)
        return to_channels_first(self.embedding(nearest).view(to_channels_last(latents).shape))


class StageA(nn.Module):
    """The Paella VQGAN: four pixels a side become one position of four channels.

    Args:
        operations: the namespace its layers come from.
    """

    reads_weights: Callable[[nn.Module], bool] = staticmethod(is_plain)
    """Whether a layer computes with its weights as they lie, so that they may be folded with others. Where it does not,
    because a host's layer fetches or patches them when it computes, the network goes through the layer itself."""

    def __init__(self, config: StageAConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
        patch = config.up_down_scale_factor
        # Widths from the image inwards.
        widths = [config.embed_dim // 2**i for i in reversed(range(config.levels))]
        innermost = widths[-1]

        self.in_block = nn.Sequential(
            nn.PixelUnshuffle(patch), operations.Conv2d(config.in_channels * patch**2, widths[0], kernel_size=1)
        )
        down: list[nn.Module] = [MixingResidualBlock(widths[0], widths[0] * 4, operations)]
        for outer, inner in pairwise(widths):
            down.append(operations.Conv2d(outer, inner, 4, stride=2, padding=1))
            down.append(MixingResidualBlock(inner, inner * 4, operations))
        down.append(
            nn.Sequential(
                operations.Conv2d(innermost, config.latent_channels, kernel_size=1, bias=False),
                nn.BatchNorm2d(config.latent_channels),
            )
        )
        self.down_blocks = nn.Sequential(*down)

        self.vquantizer = VectorQuantizer(config.num_vq_embeddings, config.latent_channels)

        up: list[nn.Module] = [nn.Sequential(operations.Conv2d(config.latent_channels, innermost, kernel_size=1))]
        up += [MixingResidualBlock(innermost, innermost * 4, operations) for _ in range(config.bottleneck_blocks)]
        for outer, inner in reversed(list(pairwise(widths))):
            up.append(operations.ConvTranspose2d(inner, outer, 4, stride=2, padding=1))
            up.append(MixingResidualBlock(outer, outer * 4, operations))
        self.up_blocks = nn.Sequential(*up)
        self.out_block = nn.Sequential(
            operations.Conv2d(widths[0], config.out_channels * patch**2, kernel_size=1), nn.PixelShuffle(patch)
        )

    def encode(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> latents [batch, 4, height/4, width/4] before quantization."""
        return self.down_blocks(self.in_block(images).contiguous(memory_format=torch.channels_last))

    def decode(self, latents: Tensor) -> Tensor:
        """[batch, 4, height, width], latents in Stage A's scale -> images [batch, 3, height*4, width*4], about 0..1."""
        x = latents.contiguous(memory_format=torch.channels_last)
        for block in self.up_blocks:
            if isinstance(block, MixingResidualBlock) and self._folds(block):
                x = FoldedBlock.of(block)(x)
            else:
                x = block(x).contiguous(memory_format=torch.channels_last)
        return self.out_block(x)

    @property
    def decoding_values(self) -> int:
        """How many numbers decoding keeps at once for every position of the latent, at most: 22 of the widest maps."""
        return 22 * self.config.embed_dim

    def _folds(self, block: MixingResidualBlock) -> bool:
        layers = (block.depthwise[1], block.channelwise[0], block.channelwise[2])
        return may_fold(block.gammas.device) and all(self.reads_weights(layer) for layer in layers)
