"""Rough pictures of latents, for a look over a sampler's shoulder: a linear map from a position's channels to RGB."""

import torch
from torch import Tensor
from torch.nn import functional as F

SPREAD = 0.2
"""Standard deviation of the colours that stand for latents whose own colours are not known."""


def fit_latent_rgb(latents: Tensor, images: Tensor) -> Tensor:
    """The map that shows `latents` most nearly as what they stand for, in the sense of least squares.

    Args:
        latents (Tensor): [batch, channels, height, width], as a sampler leaves them.
        images (Tensor): [batch, 3, any, any] in 0..1, what they were encoded from.
    Returns:
        Tensor: [channels + 1, 3]; the last row is the colour of a latent of zeros.
    """
    height, width = latents.shape[-2:]
    colours = F.adaptive_avg_pool2d(images, (height, width)).movedim(1, -1).flatten(0, 2)
    return torch.linalg.lstsq(_with_ones(latents).flatten(0, 2).double(), colours.double()).solution.float()


def latent_preview(latents: Tensor, latent_rgb: Tensor | None) -> Tensor:
    """Pictures of latents, one pixel a position.

    Args:
        latents (Tensor): [batch, channels, height, width], on any device.
        latent_rgb (Tensor): [channels + 1, 3], as `fit_latent_rgb` returns it. None where it is not known: then the
            three directions in which the latents differ most stand for red, green and blue.
    Returns:
        Tensor: [batch, height, width, 3], float32 in 0..1, on the CPU.
    """
    latents = latents.detach().float().cpu().nan_to_num(0, 0, 0)  # what is wrong with them is for others to say
    if latent_rgb is None:
        latent_rgb = _main_directions(latents)
    return (_with_ones(latents) @ latent_rgb).clamp(0, 1)


def _with_ones(latents: Tensor) -> Tensor:
    return F.pad(latents.movedim(1, -1), (0, 1), value=1)


def _main_directions(latents: Tensor) -> Tensor:
    """Principal components as a map to RGB [channels + 1, 3], about gray."""
    values = latents.movedim(1, -1).flatten(0, 2)
    mean = values.mean(dim=0)
    _, _, axes = torch.linalg.svd(values - mean, full_matrices=False)
    axes = F.pad(axes[:3], (0, 0, 0, max(0, 3 - len(axes)))).T
    # The sign of a component is arbitrary; held fast, or the colours would flicker from step to step.
    axes = axes * torch.where(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) < 0, -1.0, 1.0)
    axes = axes * SPREAD / ((values - mean) @ axes).square().mean().sqrt().clamp(min=1e-6)
    return torch.cat([axes, 0.5 - (mean @ axes)[None]])
