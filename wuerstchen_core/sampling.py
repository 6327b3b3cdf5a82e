"""The denoising loop, for any function that predicts noise.

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
"""Function (x [batch, channels, height, width], timestep_ratio [batch]) -> predicted noise, the shape of x."""


@dataclass(frozen=True)
class Step:
    """State of the loop after a step.

    Attributes:
        index: Number of the step, from 0.
        count: Number of steps in all.
        timestep_ratio: Ratio before the step, 1 (noise) to 0.
        latents (Tensor): [batch, channels, height, width], float32, latents after the step.
        denoised (Tensor): [batch, channels, height, width], float32, estimate of the finished latents.
    """

    index: int
    count: int
    timestep_ratio: float
    latents: Tensor
    denoised: Tensor


Callback = Callable[[Step], None]
"""Function called after each step. It may raise an exception to cancel the run."""


class NoiseSource:
    """Noise from one CPU generator for each image, so that an image is the same in any batch and on any device.

    Args:
        seeds: One for each image; taken modulo 2**64.
        shape: Channels, height and width of one image's latent.
        device: Device of the noise.
    Raises:
        InputError: `seeds` is empty.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> None:
        if not seeds:
            raise InputError("seeds is empty; expected one seed for each image.")
        self._generators = [torch.Generator("cpu").manual_seed(seed % 2**64) for seed in seeds]
        self._shape = (1, *shape)
        self._device = device

    def draw(self) -> Tensor:
        """Return new standard normal noise [batch, channels, height, width], float32."""
        noise = torch.cat([torch.randn(self._shape, generator=g) for g in self._generators])
        if torch.device(self._device).type == "cuda":  # from pinned memory a copy does not wait for the card
            return noise.pin_memory().to(self._device, non_blocking=True)
        return noise.to(self._device)


Condition = tuple[Tensor | None, ...]
"""Arguments that a network is conditioned on, in its order; each [batch, ...], or None for an absent one."""


def with_guidance(
    predict: Callable[..., Tensor],
    conditional: Condition,
    unconditional: Condition | None,
    guidance_scale: float,
    prepare: Callable[..., Any] | None = None,
) -> Denoiser:
    """Return a denoiser with classifier-free guidance.

    Args:
        predict: Function (x, timestep_ratio, *condition) -> noise, such as a network.
        conditional: Condition of the wanted image.
        unconditional: Condition to guide away from; None for no guidance. Where its shapes equal those of
            `conditional`, both share one call with twice the batch.
        guidance_scale: 1 gives the conditional prediction, more exaggerates it.
        prepare: Function (*condition) -> the argument that `predict` takes in its place. It is called here, once, and
            not at every step. None passes conditions as they are.
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


def add_noise(latents: Tensor, noise: Tensor, t: float) -> Tensor:
    """Add noise to finished latents, up to a timestep ratio (Ho et al., 2020, eq. 4).

    Args:
        latents (Tensor): [batch, channels, height, width], float32, latents without noise.
        noise (Tensor): [batch, channels, height, width], float32, standard normal.
        t: Timestep ratio to reach, 1 (noise) to 0.
    Returns:
        Tensor: [batch, channels, height, width], float32. At a ratio of 1 it is the noise alone, as text to image
            begins: the schedule is clamped there and would leave a hundredth of the latents.
    """
    if t == 1:
        return noise
    signal = alpha_cumprod(t)
    return latents * signal.sqrt() + noise * (1 - signal).sqrt()


@dataclass(frozen=True)
class Known:
    """Latents that a run keeps where a mask is 0, and draws anew where it is 1.

    Attributes:
        latents (Tensor): [batch, channels, height, width], float32, the finished latents to keep.
        mask (Tensor): [batch or 1, 1, height, width], float32 in 0..1; values between blend the two.
        noise (Tensor): [batch, channels, height, width], float32, standard normal, of a source of its own.
        context: Timestep ratio down to which the run is without them, so that what is drawn does not fit to them.
    """

    latents: Tensor
    mask: Tensor
    noise: Tensor
    context: float = 1.0

    def within(self, x: Tensor, t: float) -> Tensor:
        """Return `x` at a timestep ratio with the known latents, as noisy as it is, in their place."""
        if t > self.context:
            return x
        kept = self.latents if t == 0 else add_noise(self.latents, self.noise, t)
        return torch.lerp(kept, x, self.mask.expand_as(x))  # exact where the mask is 0 or 1


def ddpm_step(x: Tensor, noise: Tensor, t: float, t_next: float, fresh_noise: Tensor) -> Tensor:
    """Take one ancestral DDPM step (Ho et al., 2020, eq. 11).

    Args:
        x (Tensor): [batch, channels, height, width], float32, latents at `t`.
        noise (Tensor): [batch, channels, height, width], float32, the noise predicted in `x`.
        t: Timestep ratio of `x`, 1 (noise) to 0.
        t_next: Timestep ratio to reach, below `t`.
        fresh_noise (Tensor): [batch, channels, height, width], float32, standard normal. Not used where `t_next` is 0.
    Returns:
        Tensor: [batch, channels, height, width], float32, latents at `t_next`.
    """
    signal, signal_next = alpha_cumprod(t), alpha_cumprod(t_next)
    alpha = signal / signal_next
    mean = (x - noise * ((1 - alpha) / (1 - signal).sqrt())) * (1 / alpha).sqrt()
    if t_next == 0:
        return mean
    return mean + fresh_noise * ((1 - alpha) * (1 - signal_next) / (1 - signal)).sqrt()


def denoised_estimate(x: Tensor, noise: Tensor, t: float) -> Tensor:
    """Estimate the finished latents from one prediction.

    Args:
        x (Tensor): [batch, channels, height, width], float32, latents at `t`.
        noise (Tensor): [batch, channels, height, width], float32, the noise predicted in `x`.
        t: Timestep ratio of `x`, 1 (noise) to 0.
    Returns:
        Tensor: [batch, channels, height, width], float32.
    """
    signal = alpha_cumprod(t)
    return (x - noise * (1 - signal).sqrt()) / signal.sqrt()


def check_timesteps(timesteps: Sequence[float]) -> None:
    """Check that timesteps are two or more ratios falling strictly from at most 1 to at least 0.

    Raises:
        InputError: They are not.
    """
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
    known: Known | None = None,
) -> Tensor:
    """Denoise `x` along `timesteps`.

    Args:
        denoise: Function that predicts the noise in `x`.
        x (Tensor): [batch, channels, height, width], float32, latents at `timesteps[0]`.
        timesteps: Ratios falling from 1 to 0; one step between each two.
        noise_source: Source of fresh noise. One draw is made for every step, the last one included.
        callback: Function called after each step; None for none.
        known: Latents to keep outside of a mask; None to draw all of them.
    Returns:
        Tensor: [batch, channels, height, width], float32.
    Raises:
        InputError: `timesteps` does not fall from 1 to 0.
    """
    check_timesteps(timesteps)
    if known is not None:
        x = known.within(x, timesteps[0])
    for index, (t, t_next) in enumerate(pairwise(timesteps)):
        noise = denoise(x, torch.full((x.shape[0],), t, device=x.device)).float()
        previous, x = x, ddpm_step(x, noise, t, t_next, noise_source.draw())
        if known is not None:
            x = known.within(x, t_next)
        if callback is not None:
            callback(Step(index, len(timesteps) - 1, t, x, denoised_estimate(previous, noise, t)))
    return x
