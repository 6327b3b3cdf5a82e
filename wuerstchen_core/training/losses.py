# pyright: reportUnknownMemberType=false
# torch types from_numpy in part only.
"""Losses of the stages over a random batch."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..networks.cocktail_encoder import CocktailEncoder
from ..networks.stage_a import StageA
from ..schedule import alpha_cumprod
from .image_encoder import ReadingHeads

WAVERING = 0.02
"""Largest spread of the points of a worn image, as a share of half its side."""
GRAIN = 0.03
"""Largest noise of a worn image."""
LATENT_NOISE = 0.1
"""Largest noise in the latents that Stage A's decoder learns to see past, as Stage B leaves some."""


def reconstruction_loss(drawn: Tensor, images: Tensor) -> Tensor:
    """Return the mean error of pixels and of the differences between neighbours, which keeps edges sharp.

    Args:
        drawn (Tensor): [batch, 3, height, width], images of the network.
        images (Tensor): [batch, 3, height, width], images to match, in the range of `drawn`.
    """
    error = drawn - images
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) * 0.5
    return error.abs().mean() + error.square().mean() + edges


def recolour(images: Tensor) -> Tensor:
    """Change contrast and brightness of each channel of each image at random, so that every colour occurs.

    Args:
        images (Tensor): [batch, channels, height, width] in 0..1.
    Returns:
        Tensor: [batch, channels, height, width] in 0..1.
    """
    shape = (*images.shape[:2], 1, 1)
    gain = torch.empty(shape).uniform_(-1, 1)
    return images * gain + torch.rand(shape) * (1 - gain.abs()) + (-gain).clamp(min=0)


def worn(images: Tensor) -> Tensor:
    """Return images as Stages B and A may leave them: outlines waver, edges are soft, and there is a little noise.

    Args:
        images (Tensor): [batch, 3, height, width] in 0..1. Every other one stays as it is.
    Returns:
        Tensor: [batch, 3, height, width] in 0..1.
    """
    count, _, height, width = (chosen := images[::2]).shape
    shifts = F.interpolate(torch.randn(count, 2, 9, 9), size=[height, width], mode="bicubic")
    grid = F.affine_grid(torch.eye(2, 3).expand(count, 2, 3), list(chosen.shape), align_corners=False)
    grid = grid + shifts.movedim(1, -1) * torch.rand(count, 1, 1, 1) * WAVERING
    wavering = F.grid_sample(chosen, grid, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(wavering, 5, stride=1, padding=2, count_include_pad=False)
    mixed = torch.lerp(wavering, soft, torch.rand(count, 1, 1, 1))
    noisy = mixed + torch.randn_like(mixed) * torch.rand(count, 1, 1, 1) * GRAIN
    result = images.clone()
    result[::2] = noisy.clamp(0, 1)
    return result


def plain_latents(images: Tensor) -> Tensor:
    """Return the latents that Stage A's encoder learns to give, in Stage B's scale.

    They are the mean colour of 4x4 pixels, and how their brightness changes across them. Encoders that are free to
    choose pack more into them, but Stage B then has to learn a code that is far from linear in the colours.

    Args:
        images (Tensor): [batch, 3, height, width] in 0..1.
    Returns:
        Tensor: [batch, 4, height/4, width/4], about -1.5..1.5.
    """
    colours = (F.avg_pool2d(images, 4) - 0.5) * 3
    brightness = (images * images.new_tensor([0.55, 0.3, 0.15]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    along = torch.tensor([-1, -1 / 3, 1 / 3, 1], dtype=images.dtype)
    slope = (along + along[:, None] / 2) / 4
    return torch.cat([colours, F.conv2d(brightness, slope.view(1, 1, 4, 4), stride=4)], dim=1)


def stage_a_loss(stage_a: StageA, images: Tensor) -> Tensor:
    """Return the error of the encoder, that of images decoded from latents with noise, and that of the codebook.

    The codebook (van den Oord et al., 2017) follows the latents without changing them, because sampling never
    quantizes.

    Args:
        stage_a: Network to train.
        images (Tensor): [batch, 3, height, width] in 0..1.
    """
    stage_a.down_blocks[-1].eval()  # the latents have a scale of their own, which must not depend on the batch
    latents = plain_latents(images) * stage_a.config.scale_factor
    encoded = stage_a.encode(images)
    noise = torch.randn_like(latents) * torch.rand(len(latents), 1, 1, 1) * (LATENT_NOISE * stage_a.config.scale_factor)
    drawn = stage_a.decode(latents + noise)
    redrawn = reconstruction_loss(drawn, images) + 20 * (drawn - images).square().mean()
    corner = latents[:, :, ::4, ::4]
    codebook = (stage_a.vquantizer(corner) - corner).square().mean()
    return redrawn + 2 * (encoded - latents).square().mean() + codebook


def image_encoder_loss(image_encoder: CocktailEncoder, heads: ReadingHeads, images: Tensor, words: Tensor) -> Tensor:
    """Return the error of images and captions read from the embeddings with noise, as Stage C's will have.

    Errors of pixels are divided by each image's contrast, so that gray on white counts as much as red on blue.

    Args:
        image_encoder: Network to train.
        heads: Heads that read image and words from the embeddings.
        images (Tensor): [batch, 3, height, width] in 0..1.
        words (Tensor): [batch, vocabulary], 1 for words of the caption, else 0.
    """
    features = image_encoder.features(images)
    logits, drawn = heads(features + torch.randn_like(features) * 0.3)
    target = F.adaptive_avg_pool2d(images, drawn.shape[-2:])
    contrast = target.std(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True) + 0.05
    told = F.binary_cross_entropy_with_logits(logits, words, reduction="sum") / len(words)
    return reconstruction_loss(drawn / contrast, target / contrast) + 0.5 * told


def features_loss(image_encoder: CocktailEncoder, images: Tensor, features: Tensor) -> Tensor:
    """Return the error of the features that the image encoder sees in images.

    Args:
        image_encoder: Network to train.
        images (Tensor): [batch, 3, height, width] in 0..1.
        features (Tensor): [batch, 16, height/42.67, width/42.67], as they should be.
    """
    image_encoder.normalise.eval()  # the features have their own scale, which must not depend on the batch
    error = image_encoder.features(images) - features
    return error.square().mean() + 0.1 * error.abs().mean()


def random_ratios(rng: np.random.Generator, count: int) -> Tensor:
    """Return timestep ratios [count] for Stage C; half of them are above 3/4, where the text decides."""
    return torch.from_numpy((1 - _even(rng, count) ** 2).astype(np.float32)).clamp(0.001, 1)


def random_decoder_ratios(rng: np.random.Generator, count: int) -> Tensor:
    """Return timestep ratios [count] for Stage B; 70% are above 0.86, where the image embeddings decide."""
    even = _even(rng, count)
    ratios = np.where(even < 0.7, 1 - (even / 0.7) ** 1.5 * 0.14, (1 - even) / 0.3 * 0.86)
    return torch.from_numpy(ratios.astype(np.float32)).clamp(0.001, 1)


def _even(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return numbers [count] in 0..1, random but evenly spread."""
    return (np.arange(count) + rng.random(count)) / count


SignalAndScale = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function (noised, ratios) -> signal and scale, such as `StageC.signal_and_scale` under a text."""


def diffusion_loss(
    signal_and_scale: SignalAndScale, clean: Tensor, ratios: Tensor, teacher: SignalAndScale | None = None
) -> Tensor:
    """Return the error of the predicted signal and of the predicted scale of the noise.

    The published loss takes the error of (x - signal) / scale, whose pole at scale 0 makes small networks in bfloat16
    diverge. The optimum of this loss predicts the same noise. The signal's weight is that of the velocity loss of
    Salimans & Ho (2022), clamped at both ends of the schedule.

    Args:
        signal_and_scale: The network.
        clean (Tensor): [batch, channels, height, width], latents without noise.
        ratios (Tensor): [batch], 1 (noise) to 0.
        teacher: Network whose predictions are to be learned; None to learn `clean` itself.
    """
    kept = alpha_cumprod(ratios).view(-1, 1, 1, 1)
    spread = (1 - kept).sqrt()
    noised = kept.sqrt() * clean + spread * torch.randn_like(clean)
    signal, scale = signal_and_scale(noised, ratios)
    wanted = (kept.sqrt() * clean, spread) if teacher is None else teacher(noised, ratios)
    signal_error = (signal - wanted[0]).square() / ((1 - kept).clamp(min=0.3) * kept.clamp(min=0.0005))
    scale_error = ((scale - wanted[1]) / spread.clamp(min=0.2)).square()
    return signal_error.mean() + scale_error.mean()
