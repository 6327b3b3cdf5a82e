# pyright: reportUnknownMemberType=false
# torch types from_numpy in part only.
"""Loss of the authors' own training of Stage C, for finetuning. Source: dome272/Wuerstchen, train_stage_C.py."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..schedule import alpha_cumprod


def random_timesteps(rng: np.random.Generator, count: int) -> Tensor:
    """Return timestep ratios [count]: even in 0.001..1, with 7% of them at 1, where the text alone decides."""
    return torch.from_numpy((rng.random(count) * 1.08 + 0.001).astype(np.float32)).clamp(0.001, 1.0)


Predict = Callable[[Tensor, Tensor], Tensor]
"""Function (noised, ratios) -> noise, such as `StageC.predict` under a text."""


def noise_loss(
    predict: Predict, clean: Tensor, ratios: Tensor, noise: Tensor, teacher: Predict | None = None
) -> Tensor:
    """Return the mean squared error of the predicted noise, weighted by 1 - alpha_cumprod (P2; Choi et al., 2022).

    Args:
        predict: The network.
        clean (Tensor): [batch, channels, height, width], latents without noise.
        ratios (Tensor): [batch], 1 (noise) to 0.
        noise (Tensor): The shape of `clean`, standard normal.
        teacher: Network whose predictions are to be learned; None to learn `noise` itself.
    """
    kept = alpha_cumprod(ratios).view(-1, 1, 1, 1)
    noised = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    wanted = noise if teacher is None else teacher(noised, ratios).float()
    error = (predict(noised, ratios).float() - wanted).square().mean(dim=(1, 2, 3))
    return (error * (1 - kept.flatten())).mean()
