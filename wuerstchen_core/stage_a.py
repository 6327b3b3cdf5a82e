"""Stage A, the VQGAN: decodes a 4-channel latent, a quarter of the image's side, to pixels ("vqgan" in diffusers)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from .blocks import LayerNorm2d, to_channels_first, to_channels_last


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

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.depthwise = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(channels, channels, 3, groups=channels))
        self.norm2 = LayerNorm2d(channels)
        self.channelwise = nn.Sequential(
            nn.Linear(channels, hidden_channels), nn.GELU(), nn.Linear(hidden_channels, channels)
        )
        self.gammas = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, channels, height, width]."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.gammas
        x = x + self.depthwise(self.norm1(x) * (1 + scale1) + shift1) * gate1
        h = to_channels_last(self.norm2(x) * (1 + scale2) + shift2)
        return x + to_channels_first(self.channelwise(h)) * gate2


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
    """The Paella VQGAN: four pixels a side become one position of four channels."""

    def __init__(self, config: StageAConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.up_down_scale_factor
        # Widths from the image inwards.
        widths = [config.embed_dim // 2**i for i in reversed(range(config.levels))]
        innermost = widths[-1]

        self.in_block = nn.Sequential(
            nn.PixelUnshuffle(patch), nn.Conv2d(config.in_channels * patch**2, widths[0], kernel_size=1)
        )
        down: list[nn.Module] = [MixingResidualBlock(widths[0], widths[0] * 4)]
        for outer, inner in pairwise(widths):
            down += [nn.Conv2d(outer, inner, 4, stride=2, padding=1), MixingResidualBlock(inner, inner * 4)]
        down.append(
            nn.Sequential(
                nn.Conv2d(innermost, config.latent_channels, kernel_size=1, bias=False),
                nn.BatchNorm2d(config.latent_channels),
            )
        )
        self.down_blocks = nn.Sequential(*down)

        self.vquantizer = VectorQuantizer(config.num_vq_embeddings, config.latent_channels)

        up: list[nn.Module] = [nn.Sequential(nn.Conv2d(config.latent_channels, innermost, kernel_size=1))]
        up += [MixingResidualBlock(innermost, innermost * 4) for _ in range(config.bottleneck_blocks)]
        for outer, inner in reversed(list(pairwise(widths))):
            up += [nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1), MixingResidualBlock(outer, outer * 4)]
        self.up_blocks = nn.Sequential(*up)
        self.out_block = nn.Sequential(
            nn.Conv2d(widths[0], config.out_channels * patch**2, kernel_size=1), nn.PixelShuffle(patch)
        )

    def encode(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> latents [batch, 4, height/4, width/4] before quantization."""
        return self.down_blocks(self.in_block(images).contiguous(memory_format=torch.channels_last))

    def decode(self, latents: Tensor) -> Tensor:
        """[batch, 4, height, width], latents in Stage A's scale -> images [batch, 3, height*4, width*4], about 0..1."""
        return self.out_block(self.up_blocks(latents.contiguous(memory_format=torch.channels_last)))
