# pyright: reportUnknownMemberType=false
# torch types nn.Embedding.from_pretrained in part only.
"""Stage A, the VQGAN: decodes a 4-channel latent, a quarter of the image's side, to pixels ("vqgan" in diffusers)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import LayerNorm2d
from .functional import gelu, may_fold, to_channels_first, to_channels_last
from .operations import Operations, reader_of

POSITIONS_AT_ONCE = 4096
"""Latent positions per band on the CPU. A band's widest map takes 12 MB at the published width in bfloat16."""


@dataclass(frozen=True)
class StageAConfig:
    """Shape of a Stage A network. Field names are those of the published config.json.

    Attributes:
        in_channels: Channels of the encoded image.
        out_channels: Channels of the decoded image.
        up_down_scale_factor: Side in pixels of the patch that becomes one position.
        levels: Number of sizes inside the network; each is half the one before.
        bottleneck_blocks: Residual blocks of the decoder at the smallest size.
        embed_dim: Width at the smallest size; half of it at each larger one.
        latent_channels: Channels of the latent.
        num_vq_embeddings: Number of vectors in the codebook.
        scale_factor: Factor from Stage B's latents to Stage A's.
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
        """Return the shape of the published VQGAN, 18 M parameters (warp-ai/wuerstchen, vqgan/config.json)."""
        return cls()


class MixingResidualBlock(nn.Module):
    """Depthwise convolution and an inverted bottleneck over the channels, each with a scaled norm and a learned gate.

    Args:
        channels: Channels of the feature map.
        hidden_channels: Width of the bottleneck.
        operations: Namespace that the layers come from.
    """

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
        """Return `x` plus the block's change, both [batch, channels, height, width]."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.gammas.to(x)
        x = x + self.depthwise(self.norm1(x) * (1 + scale1) + shift1) * gate1
        h = to_channels_last(self.norm2(x) * (1 + scale2) + shift2)
        return x + to_channels_first(self.channelwise(h)) * gate2


@dataclass(frozen=True)
class FoldedBlock:
    """A MixingResidualBlock with its six gammas folded into its layers, for decoding without gradients.

    Attributes:
        depthwise (tuple[Tensor, Tensor]): Weight [channels, 1, 3, 3] and bias [channels] of the convolution.
        widen (tuple[Tensor, Tensor]): Weight [hidden, channels] and bias [hidden] of the first linear layer.
        narrow (tuple[Tensor, Tensor]): Weight [channels, hidden] and bias [channels] of the second linear layer.
    """

    # With n(x) for the norm, s for the scales, t for the shifts and g for the gates, the block computes
    #
    #     x + g1 * (W1 @ ((1 + s1) * n(x) + t1) + b1)          depthwise, then
    #     x + g2 * (W3 @ gelu(W2 @ ((1 + s2) * n(x) + t2) + b2) + b3)
    #
    # Each layer is linear and each gamma is one number, so the gammas move into weights and biases:
    #
    #     depthwise  W = (1 + s1) * g1 * W1    b = (b1 + t1 * sum(W1)) * g1
    #     widen      W = (1 + s2) * W2         b = b2 + t2 * sum(W2)
    #     narrow     W = g2 * W3               b = g2 * b3
    #
    # where sum() adds the weights of each output channel. The convolution's padding repeats the edge, so every
    # position, at the border too, sees t1 under the whole kernel. Only the rounding differs from the plain form.

    depthwise: tuple[Tensor, Tensor]
    widen: tuple[Tensor, Tensor]
    narrow: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, block: MixingResidualBlock) -> "FoldedBlock":
        """Fold a block in float32. The result has the dtype of the block's gammas."""
        scale1, shift1, gate1, scale2, shift2, gate2 = block.gammas.float()
        layers = (block.depthwise[1], block.channelwise[0], block.channelwise[2])
        (w1, b1), (w2, b2), (w3, b3) = (
            (layer.get_parameter("weight").float(), layer.get_parameter("bias").float()) for layer in layers
        )
        folded = (
            (w1 * (1 + scale1) * gate1, (b1 + shift1 * w1.sum(dim=(1, 2, 3))) * gate1),
            (w2 * (1 + scale2), b2 + shift2 * w2.sum(dim=1)),
            (w3 * gate2, b3 * gate2),
        )
        return cls(*((weight.to(block.gammas.dtype), bias.to(block.gammas.dtype)) for weight, bias in folded))

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` plus the block's change.

        Args:
            x (Tensor): [batch, channels, height, width]. Overwritten.
        Returns:
            Tensor: `x`.
        """
        # On the CPU a band of rows goes through the whole block before the next one, so that all maps in between stay
        # in cache. The convolution of a band sees one more row on either side. All bands share one buffer for the
        # widest map, because the system is slow to allocate that much for every band.
        batch, channels, height, width = x.shape
        rows = min(height, max(1, POSITIONS_AT_ONCE // (batch * width))) if x.device.type == "cpu" else height
        (widen, widen_bias), (narrow, narrow_bias) = self.widen, self.narrow
        wide = x.new_empty(batch * rows * width, len(widen))
        above: Tensor | None = None  # last normed row of the band above, from before that band was overwritten
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
    """Return LayerNorm over the channels of [batch, height, width, channels]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class VectorQuantizer(nn.Module):
    """Codebook of the latents. Only training uses it; decoding takes the latents as they are.

    Args:
        num_embeddings: Number of vectors.
        channels: Length of a vector.
    """

    def __init__(self, num_embeddings: int, channels: int) -> None:
        super().__init__()
        table = torch.empty(num_embeddings, channels)
        if not table.is_meta:  # where nn.Embedding would import torch's compiler to draw values
            table.normal_()
        self.embedding: nn.Embedding = nn.Embedding.from_pretrained(table, freeze=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the nearest codebook vector at each position, for latents [batch, channels, height, width]."""
        flat = to_channels_last(latents).flatten(0, 2)
        nearest = torch.cdist(flat, self.embedding.weight).argmin(dim=1)
        return to_channels_first(self.embedding(nearest).view(to_channels_last(latents).shape))


class StageA(nn.Module):
    """The Paella VQGAN: 4x4 pixels become one position of four channels.

    Args:
        config: Shape of the network.
        operations: Namespace that the layers come from.
    Attributes:
        config (StageAConfig): Shape of the network.
        reads_weights (WeightReader): Says which layers' weights may be folded; see `blocks.reader_of`.
    """

    def __init__(self, config: StageAConfig, operations: Operations = nn) -> None:
        super().__init__()
        self.config = config
        self.reads_weights = reader_of(operations)
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
        """Encode images to latents before quantization.

        Args:
            images (Tensor): [batch, 3, height, width] in 0..1.
        Returns:
            Tensor: [batch, 4, height/4, width/4], latents in Stage A's scale.
        """
        return self.down_blocks(self.in_block(images).contiguous(memory_format=torch.channels_last))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images.

        Args:
            latents (Tensor): [batch, 4, height, width], in Stage A's scale.
        Returns:
            Tensor: [batch, 3, height*4, width*4], about 0..1, not clamped.
        """
        x = latents.contiguous(memory_format=torch.channels_last)
        for block in self.up_blocks:
            if isinstance(block, MixingResidualBlock) and self._folds(block):
                x = FoldedBlock.of(block)(x)
            else:
                x = block(x).contiguous(memory_format=torch.channels_last)
        return self.out_block(x)

    @property
    def decoding_values(self) -> int:
        """Numbers that decoding holds in memory for each latent position at its peak."""
        return 22 * self.config.embed_dim

    def _folds(self, block: MixingResidualBlock) -> bool:
        """Return whether a block may be computed in its folded form."""
        layers = (block.depthwise[1], block.channelwise[0], block.channelwise[2])
        return may_fold(block.gammas.device) and all(self.reads_weights(layer) for layer in layers)
