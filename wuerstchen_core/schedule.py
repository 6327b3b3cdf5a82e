# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# Tensor.tolist is typed in part only.
"""The noise schedule: the timestep ratios of a run, and the signal left at each.

Source: cosine schedule of Nichol & Dhariwal (2021), s = 0.008, as in `DDPMWuerstchenScheduler`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .errors import InputError

SMALLEST_STRENGTH = 0.001
"""Smallest share of a schedule that is run. A whole schedule has as many more steps."""
_OFFSET = 0.008
"""Offset s of the cosine schedule."""


def alpha_cumprod(t: float | Tensor) -> Tensor:
    """Return the share of signal variance left at a timestep ratio (Nichol & Dhariwal, 2021, eq. 17).

    Args:
        t (float | Tensor): Any shape, 1 (noise) to 0 (image).
    Returns:
        Tensor: The shape of `t`, float32 in 0.0001..0.9999.
    """
    s = torch.tensor(_OFFSET)
    at_zero = torch.cos(s / (1 + s) * math.pi * 0.5) ** 2
    t = torch.as_tensor(t, dtype=torch.float32)
    return (torch.cos((t + s) / (1 + s) * math.pi * 0.5) ** 2 / at_zero).clamp(0.0001, 0.9999)


def _linspace(start: float, stop: float, count: int) -> list[float]:
    return torch.linspace(start, stop, count, dtype=torch.float64).tolist()


def _check_steps(steps: int) -> None:
    if type(steps) is not int or steps < 1:
        raise InputError(f"steps is {steps!r}; expected a whole number of at least 1.")


def linear_timesteps(steps: int) -> list[float]:
    """Return the ratios of even steps from 1 to 0: steps + 1 values.

    They are spaced in float32, as in the published pipelines. The last bit matters: the networks take a ratio times
    10000 as an angle.

    Args:
        steps: Number of steps, at least 1.
    Raises:
        InputError: `steps` is not a whole number of at least 1.
    """
    _check_steps(steps)
    return torch.linspace(1.0, 0.0, steps + 1).tolist()


def v2_timesteps(steps: int) -> list[float]:
    """Return the ratios of v2: two thirds of the steps from 1 to 2/3, the rest from there to 0; steps + 1 values.

    Args:
        steps: Number of steps, at least 1. 29 gives the published list.
    Raises:
        InputError: `steps` is not a whole number of at least 1.
    """
    _check_steps(steps)
    if steps == 1:
        return [1.0, 0.0]
    noisy = min(steps - 1, max(1, round(steps * 2 / 3)))
    return _linspace(1.0, 2 / 3, noisy + 1) + _linspace(2 / 3, 0.0, steps - noisy + 1)[1:]


def early_timesteps(steps: int) -> list[float]:
    """Return ratios whose steps grow with the fourth power, so that most lie where the noise is strongest.

    The first step ends where the signal is no longer below the limit of `alpha_cumprod`: a shorter one changes nothing.

    They suit a decoder whose image embeddings leave little open, such as cocktail's: outlines are decided at the
    start, and a few steps give cleaner ones than many.

    Args:
        steps: Number of steps, at least 1. 3 gives 1, 0.988, 0.802 and 0.
    Raises:
        InputError: `steps` is not a whole number of at least 1.
    """
    _check_steps(steps)
    if steps == 1:
        return [1.0, 0.0]
    return [1.0, *(1 - third**4 for third in _linspace(1 / 3, 1.0, steps))]


def whole_steps(steps: int, strength: float) -> int:
    """Return the number of steps of a whole schedule, so that `last_steps` leaves `steps` of them.

    Args:
        steps: Steps to run, at least 1.
        strength: Share of the schedule to run, 0.001 to 1.
    Raises:
        InputError: An argument is out of range.
    """
    _check_steps(steps)
    _check_strength(strength)
    return max(steps, round(steps / strength))


def last_steps(timesteps: Sequence[float], strength: float) -> Sequence[float]:
    """Return the end of a schedule, which changes an image that is there instead of drawing one from noise.

    Args:
        timesteps: Ratios falling from 1 to 0.
        strength: Share of the steps to keep, 0.001 to 1. At least one step is kept; 1 keeps them all.
    Raises:
        InputError: `strength` is out of range.
    """
    _check_strength(strength)
    return timesteps[-(max(1, round((len(timesteps) - 1) * strength)) + 1) :]


def _check_strength(strength: float) -> None:
    if not SMALLEST_STRENGTH <= strength <= 1:
        raise InputError(
            f"strength is {strength!r}; expected a number from {SMALLEST_STRENGTH} (the image stays) to 1 (drawn from "
            "noise)."
        )


SCHEDULES: dict[str, Callable[[int], list[float]]] = {
    "v2": v2_timesteps,
    "linear": linear_timesteps,
    "early": early_timesteps,
}
"""Name -> function from the number of steps to the ratios."""
DEFAULT_STAGE_C_TIMESTEPS = v2_timesteps(29)
"""Published ratios of Stage C: 20 values from 1 to 2/3, then 10 more to 0."""
DEFAULT_STAGE_B_TIMESTEPS = linear_timesteps(12)
"""Published ratios of Stage B: 13 values from 1 to 0."""
LARGEST_LAST_RATIO = 0.85
"""Ratio from which one step can still reach the image. The image is the estimate from the predicted noise, whose error
grows with the noise and without bound towards 1 (see `sampling.denoised_estimate`)."""
