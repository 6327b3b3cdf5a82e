"""What each stage is trained to do, as a loss over a random batch."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.stage_a import StageA
from ..schedule import alpha_cumprod
from .compressor import ReadingHeads, SemanticCompressor


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


def compressor_loss(compressor: SemanticCompressor, heads: ReadingHeads, images: Tensor, words: Tensor) -> Tensor:
    """Redraw `images` and tell the words of their captions from embeddings blurred by noise, as Stage C's will be.

    Errors of pixels are in units of each picture's contrast: the figure is as clear in gray on white as in red on blue.

    Args:
        images: [batch, 3, height, width] in 0..1.
        words: [batch, vocabulary], 1 where the caption has the word.
    """
    features = compressor.features(images)
    logits, drawn = heads(features + torch.randn_like(features) * 0.3)
    target = F.adaptive_avg_pool2d(images, drawn.shape[-2:])
    contrast = target.std(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True) + 0.05
    told = F.binary_cross_entropy_with_logits(logits, words, reduction="sum") / len(words)
    return reconstruction_loss(drawn / contrast, target / contrast) + 0.5 * told


def random_ratios(rng: np.random.Generator, count: int) -> Tensor:
    """Timestep ratios [count], half of them above 3/4, where the text decides; each batch sees the whole schedule."""
    return torch.from_numpy((1 - _even(rng, count) ** 2).astype(np.float32)).clamp(0.001, 1)


def random_decoder_ratios(rng: np.random.Generator, count: int) -> Tensor:
    """Timestep ratios [count] for Stage B, seven of ten above 0.78, where the image embeddings decide."""
    even = _even(rng, count)
    ratios = np.where(even < 0.7, 1 - even / 0.7 * 0.22, (1 - even) / 0.3 * 0.78)
    return torch.from_numpy(ratios.astype(np.float32)).clamp(0.001, 1)


def _even(rng: np.random.Generator, count: int) -> np.ndarray:
    """Numbers [count] in 0..1, random but evenly spread."""
    return (np.arange(count) + rng.random(count)) / count


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
    signal_error = (signal - kept.sqrt() * clean).square() / ((1 - kept).clamp(min=0.3) * kept.clamp(min=0.0005))
    scale_error = ((scale - spread) / spread.clamp(min=0.2)).square()
    return signal_error.mean() + scale_error.mean()
