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


def diffusion_loss(
    signal_and_scale: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], clean: Tensor, ratios: Tensor
) -> Tensor:
    """Error of the two maps that a prediction of noise is made of, each against what it should be.

    The published loss, of their quotient, has a pole where the scale is 0, and a small network trained in bfloat16 is
    thrown far off by it. At its optimum this one predicts the same noise. The signal's weight is that of the velocity
    loss of Salimans & Ho (2022), held back at both ends of the schedule.

    Args:
        signal_and_scale: (noised, ratios) -> the two maps, as Stages B and C return them.
        clean: [batch, channels, height, width].
        ratios: [batch], 1 to 0.
    """
    kept = alpha_cumprod(ratios).view(-1, 1, 1, 1)
    spread = (1 - kept).sqrt()
    noised = kept.sqrt() * clean + spread * torch.randn_like(clean)
    signal, scale = signal_and_scale(noised, ratios)
    signal_error = (signal - kept.sqrt() * clean).square() / ((1 - kept).clamp(min=0.05) * kept.clamp(min=0.005))
    scale_error = ((scale - spread) / spread.clamp(min=0.2)).square()
    return signal_error.mean() + scale_error.mean()
