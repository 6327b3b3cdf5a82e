"""The denoising loop, as a function over any callable that predicts noise. Knows no network.

Source: ancestral DDPM step (Ho et al., 2020, eq. 11) on the cosine schedule; classifier-free guidance
(Ho & Salimans, 2022) in the form unconditional + scale * (conditional - unconditional).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .schedule import alpha_cumprod

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x [batch, channels, height, width], timestep_ratio [batch]) -> predicted noise, the shape of x."""


@dataclass(frozen=True)
class Step:
    """What a callback is told after each step.

    index: 0 for the first. count: steps in all. timestep_ratio: the one just left.
    latents (Tensor): [batch, channels, height, width], float32, at the next ratio.
    denoised (Tensor): the same shape, what the network now takes the finished latents to be.
    """

    index: int
    count: int
    timestep_ratio: float
    latents: Tensor
    denoised: Tensor


Callback = Callable[[Step], None]
"""Called after each step. An exception it raises ends the loop, which is how a run is cancelled."""


class NoiseSource:
    """One CPU generator an image, so that an image is the same alone and in any batch, on any device.

    Args:
        seeds: one an image; taken modulo 2**64.
        shape: (channels, height, width) of one image's latent.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> None:
        if not seeds:
            raise InputError("seeds is empty; expected one seed for each image.")
        self._generators = [torch.Generator("cpu").manual_seed(seed % 2**64) for seed in seeds]
        self._shape = (1, *shape)
        self._device = device

    def draw(self) -> Tensor:
        """Standard normal noise [batch, channels, height, width], float32."""
        return torch.cat([torch.randn(self._shape, generator=g) for g in self._generators]).to(self._device)


Condition = tuple[Tensor | None, ...]
"""What a network is conditioned on, in the order of its arguments; each [batch, ...], or None where it goes without."""


def with_guidance(
    predict: Callable[..., Tensor],
    conditional: Condition,
    unconditional: Condition | None,
    guidance_scale: float,
    prepare: Callable[..., Any] | None = None,
) -> Denoiser:
    """A denoiser with classifier-free guidance: 1 is the conditional prediction, above 1 exaggerates it.

    Args:
        predict: (x, timestep_ratio, *condition) -> noise, such as a network.
        unconditional: None for no guidance. Conditions of equal shapes share one call of twice the batch.
        prepare: *condition -> what `predict` takes in its place, computed here and not at every step.
    """

    def given(condition: Condition) -> Denoiser:
        arguments = condition if prepare is None else (prepare(*condition),)
        return lambda x, t: predict(x, t, *arguments)

    if unconditional is None:
        return given(conditional)
    pairs = list(zip(conditional, unconditional, strict=True))
    if any((a is None) != (b is None) or (a is not None and b is not None and a.shape != b.shape) for a, b in pairs):
        with_condition, without_condition = given(conditional), given(unconditional)
        return lambda x, t: torch.lerp(without_condition(x, t), with_condition(x, t), guidance_scale)
    both = given(tuple(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        with_text, without = both(torch.cat([x, x]), torch.cat([t, t])).chunk(2)
        return torch.lerp(without, with_text, guidance_scale)

    return denoise


def ddpm_step(x: Tensor, noise: Tensor, t: float, t_next: float, fresh_noise: Tensor) -> Tensor:
    """From timestep ratio `t` to `t_next` (nearer 0), given the predicted noise.

    Args:
        x, noise, fresh_noise (Tensor): [batch, channels, height, width], float32; none is added on reaching 0.
    """
    signal, signal_next = alpha_cumprod(t), alpha_cumprod(t_next)
    alpha = signal / signal_next
    mean = (x - noise * ((1 - alpha) / (1 - signal).sqrt())) * (1 / alpha).sqrt()
    if t_next == 0:
        return mean
    return mean + fresh_noise * ((1 - alpha) * (1 - signal_next) / (1 - signal)).sqrt()


def denoised_estimate(x: Tensor, noise: Tensor, t: float) -> Tensor:
    """The finished latents that `x` at ratio `t` points to, given the predicted noise. Shapes as `x`."""
    signal = alpha_cumprod(t)
    return (x - noise * (1 - signal).sqrt()) / signal.sqrt()


def check_timesteps(timesteps: Sequence[float]) -> None:
    """Raises InputError unless `timesteps` are two or more ratios falling strictly from at most 1 to at least 0."""
    falling = all(a > b for a, b in pairwise(timesteps))
    if len(timesteps) < 2 or not falling or not (timesteps[0] <= 1 and timesteps[-1] >= 0):
        raise InputError(
            f"timesteps is {list(timesteps)!r}; expected two or more numbers falling from 1 to 0, "
            "such as linear_timesteps(12) returns."
        )


@torch.inference_mode()
def sample(
    denoise: Denoiser,
    x: Tensor,
    timesteps: Sequence[float],
    noise_source: NoiseSource,
    callback: Callback | None = None,
) -> Tensor:
    """Denoise `x` along `timesteps`.

    Args:
        denoise: predicts the noise in x.
        x (Tensor): [batch, channels, height, width], noise at timesteps[0], float32.
        timesteps: ratios falling from 1 to 0; one step between each two.
        noise_source: drawn from once a step, the last included.
        callback: called after each step.
    Returns:
        Tensor: the shape of `x`, float32.
    Raises:
        InputError: `timesteps` does not fall from 1 to 0.
    """
    check_timesteps(timesteps)
    for index, (t, t_next) in enumerate(pairwise(timesteps)):
        noise = denoise(x, torch.full((x.shape[0],), t, device=x.device)).float()
        previous, x = x, ddpm_step(x, noise, t, t_next, noise_source.draw())
        if callback is not None:
            callback(Step(index, len(timesteps) - 1, t, x, denoised_estimate(previous, noise, t)))
    return x
