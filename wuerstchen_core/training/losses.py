"""What each stage is trained to do, as a loss over a random batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..schedule import alpha_cumprod
from ..stage_a import StageA


def reconstruction_loss(drawn: Tensor, images: Tensor) -> Tensor:
    """Mean error of pixels and of their differences to the neighbours, which keeps edges sharp.

    Args:
        drawn, images: [batch, 3, height, width].
    """
    error = drawn - images
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) * 0.5
    return error.abs().mean() + error.square().mean() + edges


def recolour(images: Tensor) -> Tensor:
    """A random change of contrast and brightness for each channel of each picture, so that every colour is seen."""
    shape = (*images.shape[:2], 1, 1)
    gain = torch.empty(shape).uniform_(-1, 1)
    return images * gain + torch.rand(shape) * (1 - gain.abs()) + (-gain).clamp(min=0)


def stage_a_loss(stage_a: StageA, images: Tensor) -> Tensor:
    """Redraw `images` from their latents, a little noise added; the codebook follows the latents without bending them.

    Sampling never quantizes, so the codebook (van den Oord et al., 2017) is kept for what it says about the latents.

    Args:
        images: [batch, 3, height, width] in 0..1.
    """
    latents = stage_a.encode(images)
    noise = torch.randn_like(latents) * (0.02 * stage_a.config.scale_factor)
    redrawn = reconstruction_loss(stage_a.decode(latents + noise), images)
    corner = latents.detach()[:, :, ::4, ::4]
    return redrawn + (stage_a.vquantizer(corner) - corner).square().mean()


def random_ratios(rng: np.random.Generator, count: int) -> Tensor:
    """Timestep ratios [count], spread evenly over 0..1 so that each batch sees the whole schedule."""
    return torch.from_numpy(((np.arange(count) + rng.random(count)) / count).astype(np.float32)).clamp(0.001, 1)


def diffusion_loss(predict: Callable[[Tensor, Tensor], Tensor], clean: Tensor, ratios: Tensor) -> Tensor:
    """Error of the predicted noise, weighted towards the noisy end, where a picture's content is decided.

    The weight 1 / alpha_cumprod makes it the velocity loss of Salimans & Ho (2022); it is held to 20.

    Args:
        predict: (noised, ratios) -> noise.
        clean: [batch, channels, height, width].
        ratios: [batch], 1 to 0.
    """
    signal = alpha_cumprod(ratios).view(-1, 1, 1, 1)
    noise = torch.randn_like(clean)
    noised = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    error = (predict(noised, ratios) - noise).square() / signal.clamp(min=0.05)
    return error.mean()
