"""Preview images of latents: by a small network where there is one, else by a linear map to RGB."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .networks.previewer import Previewer
from .networks.stage_b import StageB
from .networks.stage_c import StageC

_linalg = cast(Any, torch.linalg)  # torch does not type its functions

SPREAD = 0.2
"""Standard deviation of the preview's RGB values where no map is known."""


def preview(network: StageB | StageC, latents: Tensor) -> Tensor:
    """Make a preview image of each latent of a stage, the best that its checkpoint allows.

    Args:
        network: Network that the latents are sampled with.
        latents (Tensor): [batch, channels, height, width], on any device, as a sampler leaves them.
    Returns:
        Tensor: [batch, height, width, 3], four times as high and wide where the network has a previewer, float32 in
            0..1, on the CPU.
    """
    own = network.previewer if isinstance(network, StageC) else None
    return preview_in(own or network.latent_rgb, latents)


def preview_in(colours: Previewer | Tensor | None, latents: Tensor) -> Tensor:
    """Make a preview image of each latent in the colours that `checkpoints.colours.load_colours` returned.

    Args and returns as for `preview`.
    """
    if isinstance(colours, Previewer):
        return colours(latents.nan_to_num(0, 0, 0))
    return latent_preview(latents, colours)


def fit_latent_rgb(latents: Tensor, images: Tensor) -> Tensor:
    """Fit the linear map from latents to RGB by least squares.

    Args:
        latents (Tensor): [batch, channels, height, width], float32, as a sampler leaves them.
        images (Tensor): [batch, 3, any height, any width] in 0..1, the images that were encoded.
    Returns:
        Tensor: [channels + 1, 3], float32. The last row is the colour of a latent of zeros.
    """
    height, width = latents.shape[-2:]
    colours = F.adaptive_avg_pool2d(images, (height, width)).movedim(1, -1).flatten(0, 2)
    solution: Tensor = _linalg.lstsq(_with_ones(latents).flatten(0, 2).double(), colours.double()).solution
    return solution.float()


def latent_preview(latents: Tensor, latent_rgb: Tensor | None) -> Tensor:
    """Make a preview image of each latent, one pixel a position.

    Args:
        latents (Tensor): [batch, channels, height, width], on any device.
        latent_rgb (Tensor | None): [channels + 1, 3], from `fit_latent_rgb`. None shows the first three principal
            components of the latents as red, green and blue.
    Returns:
        Tensor: [batch, height, width, 3], float32 in 0..1, on the CPU.
    """
    latents = latents.detach().float().cpu().nan_to_num(0, 0, 0)  # a preview of broken latents must not fail
    if latent_rgb is None:
        latent_rgb = _main_directions(latents)
    return (_with_ones(latents) @ latent_rgb).clamp(0, 1)


def _with_ones(latents: Tensor) -> Tensor:
    """Append a channel of ones: [batch, channels, height, width] -> [batch, height, width, channels + 1]."""
    return F.pad(latents.movedim(1, -1), (0, 1), value=1)


def _main_directions(latents: Tensor) -> Tensor:
    """Return the principal components of latents as a map to RGB [channels + 1, 3], around gray."""
    values = latents.movedim(1, -1).flatten(0, 2)
    mean = values.mean(dim=0)
    axes: Tensor = _linalg.svd(values - mean, full_matrices=False)[2]
    axes = F.pad(axes[:3], (0, 0, 0, max(0, 3 - len(axes)))).T
    # The sign of a component is arbitrary. Its largest channel is made positive, so that colours do not flicker.
    axes = axes * torch.where(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) < 0, -1.0, 1.0)
    axes = axes * SPREAD / ((values - mean) @ axes).square().mean().sqrt().clamp(min=1e-6)
    return torch.cat([axes, 0.5 - (mean @ axes)[None]])
