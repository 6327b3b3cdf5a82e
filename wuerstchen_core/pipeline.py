"""A prompt to pictures in one call: encode, sample Stage C, sample Stage B, decode with Stage A."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .checkpoints.loading import Device, load_stage_a, load_stage_b, load_stage_c, load_text_encoder
from .checkpoints.presets import natural_size, preset, stage_b_guidance
from .checkpoints.sources import locate
from .errors import InputError
from .geometry import Size
from .sampling import Callback, Step
from .schedule import linear_timesteps, v2_timesteps
from .stages import decode_stage_a, sample_stage_b, sample_stage_c

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[str, Step], None]
"""Called after each step with "C" or "B" and what the sampler tells. An exception it raises ends the run."""


def generate(
    prompt: str,
    *,
    model: str = "cocktail",
    width: int | None = None,
    height: int | None = None,
    negative_prompt: str = "",
    seed: int = 0,
    batch_size: int = 1,
    steps: int = 29,
    guidance_scale: float = 4.0,
    stage_b_steps: int = 12,
    stage_b_guidance_scale: float | None = None,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    callback: Progress | None = None,
) -> "list[Image]":
    """Draw pictures of a prompt. Each stage is freed before the next is loaded.

    Args:
        model: a preset, such as "cocktail" or "v2-interpolated".
        width, height: in pixels, 1 to 8192; None is the size the model was made for. Drawn in steps of 128 and cropped.
        negative_prompt: what to avoid; used with guidance only.
        seed: of the first picture; picture i has seed + i, and is the same alone and in a batch.
        steps, guidance_scale: Stage C's; guidance of 1 or less is none.
        stage_b_steps, stage_b_guidance_scale: Stage B's; None is the guidance that suits the model.
        device, dtype, download: as for `load_stage_c`.
        callback: called after each step of both stages.
    Returns:
        list[PIL.Image.Image]: `batch_size` pictures, RGB, `width` x `height`.
    Raises:
        InputError: an argument is out of range.
        WeightsMissingError: the model is not on this machine; raised before any work.
        CheckpointError: it is damaged.
    """
    places = preset(model)
    natural = natural_size(model)
    if stage_b_guidance_scale is None:
        stage_b_guidance_scale = stage_b_guidance(model)
    size = Size(natural if width is None else width, natural if height is None else height)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; expected a whole number of at least 1.")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"seed is {seed!r}; expected a whole number.")
    stage_c_timesteps, stage_b_timesteps = v2_timesteps(steps), linear_timesteps(stage_b_steps)
    for part in places:
        locate(model, part, download=download)
    seeds = [seed + i for i in range(batch_size)]

    def encode(stage: str, guidance: float) -> tuple[Tensor, Tensor | None]:
        encoder = load_text_encoder(
            model, for_stage="C" if stage == "C" else "B", device=device, dtype=dtype, download=download
        )
        return encoder.encode([prompt]), encoder.encode([negative_prompt]) if guidance > 1 else None

    def report_as(stage: str) -> Callback | None:
        return None if callback is None else partial(callback, stage)

    positive, negative = encode("C", guidance_scale)
    embeddings = sample_stage_c(
        load_stage_c(model, device=device, dtype=dtype, download=download),
        positive,
        negative,
        width=size.width,
        height=size.height,
        seeds=seeds,
        timesteps=stage_c_timesteps,
        guidance_scale=guidance_scale,
        callback=report_as("C"),
    )
    positive, negative = encode("B", stage_b_guidance_scale)
    latents = sample_stage_b(
        load_stage_b(model, device=device, dtype=dtype, download=download),
        embeddings,
        positive,
        negative,
        seeds=seeds,
        timesteps=stage_b_timesteps,
        guidance_scale=stage_b_guidance_scale,
        callback=report_as("B"),
    )
    images = decode_stage_a(load_stage_a(model, device=device, dtype=dtype, download=download), latents)
    return [_picture(image, size) for image in images]


def _picture(image: Tensor, size: Size) -> "Image":
    """[3, height, width] in 0..1 -> RGB, cropped to `size` from the top left."""
    from PIL import Image

    pixels = image[:, : size.height, : size.width].permute(1, 2, 0).mul(255).round().to("cpu", torch.uint8)
    return Image.fromarray(pixels.numpy())
