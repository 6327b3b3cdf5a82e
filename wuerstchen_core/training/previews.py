# pyright: reportUnknownMemberType=false
# torch types manual_seed, backward and the optimizers' step in part only.
"""Fitting of what previews are made with, once the stages are trained."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.cocktail_encoder import CocktailEncoder
from ..networks.previewer import PIXELS, Previewer
from ..networks.stage_a import StageA
from ..previews import fit_latent_rgb
from .pictures import Batch, Pictures, batch_of, draw_batch, random_size

NOISE = 0.1
"""Largest noise in the latents that the previewer learns to see past."""
BATCHES = 60
"""Number of batches that are drawn; the previewer sees them again and again."""


@torch.no_grad()
def fit_colours(
    pictures: Pictures, image_encoder: CocktailEncoder, stage_a: StageA, count: int = 64
) -> tuple[Tensor, Tensor]:
    """Fit the `latent_rgb` of Stage C and of Stage B.

    Args:
        pictures: Source of images.
        image_encoder: Trained image encoder.
        stage_a: Trained Stage A.
        count: Number of images to fit to.
    Returns:
        tuple[Tensor, Tensor]: [17, 3] for Stage C and [5, 3] for Stage B, as `fit_latent_rgb` returns them.
    """
    batch = draw_batch(pictures, np.random.default_rng(3), count, 256, 256)
    latents = stage_a.encode(batch.images) / stage_a.config.scale_factor
    return fit_latent_rgb(_latents(batch, image_encoder), batch.images), fit_latent_rgb(latents, batch.images)


def train_previewer(pictures: Pictures, image_encoder: CocktailEncoder, c_hidden: int, steps: int) -> Previewer:
    """Train a previewer of Stage C's latents on small images.

    Args:
        pictures: Source of images.
        image_encoder: Trained image encoder.
        c_hidden: Width of the previewer, a multiple of 4.
        steps: Number of steps.
    """
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    drawn: list[tuple[Tensor, Tensor]] = []
    for _ in range(min(steps, BATCHES)):
        width, height = random_size(rng)
        batch = draw_batch(pictures, rng, batch_of(32, width, height), width, height)
        with torch.no_grad():
            latents = _latents(batch, image_encoder)
        rows, columns = latents.shape[-2:]
        drawn.append((latents, F.adaptive_avg_pool2d(batch.images, (rows * PIXELS, columns * PIXELS))))
    previewer = Previewer(drawn[0][0].shape[1], c_hidden)
    layers = previewer.layers.train()
    optimizer = torch.optim.AdamW(layers.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        latents, images = drawn[rng.integers(len(drawn))]
        noise = torch.rand(len(latents), 1, 1, 1) * NOISE
        loss = F.mse_loss(layers(latents + torch.randn_like(latents) * noise), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layers.requires_grad_(False)
    return previewer


def _latents(batch: Batch, image_encoder: CocktailEncoder) -> Tensor:
    """Return Stage C's latents of images: the known features where there are any, else the image encoder's."""
    return image_encoder.features(batch.images) if batch.features is None else batch.features
