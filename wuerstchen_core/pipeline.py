"""A text prompt to images in one call: encode, sample Stage C, sample Stage B, decode with Stage A."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .checkpoints.loading import Device, load_stage_a, load_stage_b, load_stage_c, load_text_encoder
from .checkpoints.presets import (
    DEFAULT_SEED,
    DEFAULT_STEPS,
    family,
    preset,
    size_warnings,
)
from .checkpoints.sources import locate
from .errors import InputError
from .geometry import Size
from .sampling import Callback, Step
from .schedule import SCHEDULES, v2_timesteps
from .stages import decode_stage_a, sample_stage_b, sample_stage_c

if TYPE_CHECKING:
    from PIL.Image import Image

    from .text.chunks import Embedding

Progress = Callable[[str, Step], None]
"""Function called after each step with "C" or "B" and the step. It may raise an exception to cancel the run."""


def generate(
    prompt: str,
    *,
    model: str = "cocktail",
    width: int | None = None,
    height: int | None = None,
    negative_prompt: str = "",
    seed: int = DEFAULT_SEED,
    batch_size: int = 1,
    steps: int = DEFAULT_STEPS,
    guidance_scale: float | None = None,
    stage_b_steps: int | None = None,
    stage_b_guidance_scale: float | None = None,
    weights: bool = False,
    embeddings: "Mapping[str, Embedding] | None" = None,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    callback: Progress | None = None,
) -> "list[Image]":
    """Draw images of a text prompt. Each stage is freed before the next one is loaded.

    Args:
        prompt: Text prompt.
        model: Name of a preset, such as "cocktail" or "v2-interpolated".
        width: Width in pixels, 1 to 8192; None for the size the model was made for. Images are drawn in steps of 128
            pixels and cropped. A size that the model was not trained on, or that is cropped, is warned of.
        height: Height in pixels, like `width`.
        negative_prompt: Text prompt of what to avoid. Stage C uses it, if it has guidance.
        seed: Seed of the first image. Image i has seed + i, and is the same alone and in a batch.
        batch_size: Number of images, at least 1.
        steps: Steps of Stage C, at least 1.
        guidance_scale: Guidance of Stage C; 1 or less is none. None for the one that suits the model.
        stage_b_steps: Steps of Stage B, at least 1; None for the number that suits the model.
        stage_b_guidance_scale: Guidance of Stage B; None for the one that suits the model.
        weights: Whether prompts are read as people type them: (words:1.3), any length, embedding:name. Otherwise they
            are taken literally, and a long one is cut. See `TextEncoder.encode`.
        embeddings: Textual inversions by name, for `weights`.
        device: Device to compute on.
        dtype: Dtype of the weights and the computation; None as for `load_stage_c`. torch.float8_e4m3fn is for Stages C
            and B only.
        download: True to fetch missing weights from the hub; without it nothing is downloaded.
        callback: Function called after each step of both stages; None for none.
    Returns:
        list[PIL.Image.Image]: `batch_size` images, RGB, `width` x `height`.
    Raises:
        InputError: An argument is out of range.
        WeightsMissingError: The model is not on this machine; raised before any work.
        CheckpointError: The model is damaged.
    """
    places, suits = preset(model), family(model)
    natural = suits.natural_size
    if guidance_scale is None:
        guidance_scale = suits.stage_c_guidance_scale
    if stage_b_guidance_scale is None:
        stage_b_guidance_scale = suits.stage_b_guidance_scale
    if stage_b_steps is None:
        stage_b_steps = suits.stage_b_steps
    size = Size(natural if width is None else width, natural if height is None else height)
    if type(batch_size) is not int or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}; expected a whole number of at least 1.")
    if type(seed) is not int:
        raise InputError(f"seed is {seed!r}; expected a whole number.")
    stage_c_timesteps, stage_b_timesteps = v2_timesteps(steps), SCHEDULES[suits.stage_b_schedule](stage_b_steps)
    for text in size_warnings(size, model):
        warnings.warn(text, stacklevel=2)
    for part in places:
        locate(model, part, download=download)
    seeds = [seed + i for i in range(batch_size)]
    small = None if dtype == torch.float8_e4m3fn else dtype  # Stage A and the text encoders are not kept in eight bits

    def encode(stage: Literal["C", "B"], texts: list[str]) -> list[Tensor]:
        encoder = load_text_encoder(model, for_stage=stage, device=device, dtype=small, download=download)
        if weights:
            both = encoder.encode(texts, weights=True, embeddings=embeddings)
            return [both[index : index + 1] for index in range(len(texts))]
        return [encoder.encode([text]) for text in texts]

    def report_as(stage: str) -> Callback | None:
        return None if callback is None else partial(callback, stage)

    positive, *negative = encode("C", [prompt, negative_prompt] if guidance_scale > 1 else [prompt])
    image_embeddings = sample_stage_c(
        load_stage_c(model, device=device, dtype=dtype, download=download),
        positive,
        *negative,
        width=size.width,
        height=size.height,
        seeds=seeds,
        timesteps=stage_c_timesteps,
        guidance_scale=guidance_scale,
        callback=report_as("C"),
    )
    (positive,) = encode("B", [prompt])
    latents = sample_stage_b(
        load_stage_b(model, device=device, dtype=dtype, download=download),
        image_embeddings,
        positive,
        seeds=seeds,
        timesteps=stage_b_timesteps,
        guidance_scale=stage_b_guidance_scale,
        callback=report_as("B"),
    )
    images = decode_stage_a(load_stage_a(model, device=device, dtype=small, download=download), latents)
    return [_to_image(pixels, size) for pixels in images]


def _to_image(pixels: Tensor, size: Size) -> "Image":
    """Convert pixels [3, height, width] in 0..1 to an RGB image, cropped to `size` from the top left."""
    from PIL import Image

    cropped = pixels[:, : size.height, : size.width].permute(1, 2, 0).mul(255).round().to("cpu", torch.uint8)
    return Image.fromarray(cropped.numpy())
