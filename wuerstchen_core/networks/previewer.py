"""The previewer: a small network that makes an image of Stage C's latents in milliseconds."""

import torch
from torch import Tensor, nn

PIXELS = 4
"""Pixels of a preview on each side of a position."""


class Previewer:
    """Decodes Stage C's latents to a small image.

    The layers, and the names of their weights, are those of the previewer by Würstchen's authors
    (`text2img_wurstchen_b_v1_previewer_100k.pt`). It is no module, so that a network that has one does not save its
    weights with the own ones.

    Args:
        c_in: Channels of the latents.
        c_hidden: Width, a multiple of 4; the published one has 512.
    Attributes:
        layers (nn.Sequential): The network.
    """

    def __init__(self, c_in: int = 16, c_hidden: int = 512) -> None:
        half, quarter = c_hidden // 2, c_hidden // 4
        self.layers = nn.Sequential(
            *_activated(nn.Conv2d(c_in, c_hidden, kernel_size=1)),
            *_activated(nn.Conv2d(c_hidden, c_hidden, kernel_size=3, padding=1)),
            *_activated(nn.ConvTranspose2d(c_hidden, half, kernel_size=2, stride=2)),
            *_activated(nn.Conv2d(half, half, kernel_size=3, padding=1)),
            *_activated(nn.ConvTranspose2d(half, quarter, kernel_size=2, stride=2)),
            *_activated(nn.Conv2d(quarter, quarter, kernel_size=3, padding=1)),
            nn.Conv2d(quarter, 3, kernel_size=1),
        )

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Decode latents.

        Args:
            latents (Tensor): [batch, c_in, height, width], on any device, as a sampler leaves them.
        Returns:
            Tensor: [batch, height*4, width*4, 3], float32 in 0..1, on the CPU.
        """
        images: Tensor = self.layers.eval()(latents.detach().float().cpu())
        return images.clamp(0, 1).movedim(1, -1)


def _activated(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return a layer with the activation and the normalization that follow it."""
    return layer, nn.GELU(), nn.BatchNorm2d(layer.out_channels)
