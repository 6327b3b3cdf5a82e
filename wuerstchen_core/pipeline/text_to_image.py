"""A text prompt to images: encode, sample Stage C, sample Stage B, decode with Stage A."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ..checkpoints.loading import Device
from ..checkpoints.presets import DEFAULT_SEED, DEFAULT_STEPS, family
from ..geometry import Size
from .run import Progress, Run

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..text.chunks import Embedding


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
    natural = family(model).natural_size
    size = Size(natural if width is None else width, natural if height is None else height)
    run = Run(
        reads_pictures=False,
        model=model,
        seed=seed,
        batch_size=batch_size,
        steps=steps,
        guidance_scale=guidance_scale,
        stage_b_steps=stage_b_steps,
        stage_b_guidance_scale=stage_b_guidance_scale,
        weights=weights,
        embeddings=embeddings,
        device=device,
        dtype=dtype,
        download=download,
        callback=callback,
    )
    run.warn_of(size)
    image_embeddings = run.sample_stage_c(size, prompt, negative_prompt)
    latents = run.sample_stage_b(image_embeddings, prompt)
    return run.decode(latents, size)
