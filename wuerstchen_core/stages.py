"""The verbs of the model: sample Stage C, sample Stage B, decode and encode with Stage A.

Each takes a network and tensors, and returns a tensor on the network's device. This is the one place that joins the
networks, the sampler, and the published scales.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .errors import InputError
from .geometry import Size, stage_b_size
from .networks.stage_a import StageA
from .networks.stage_b import StageB
from .networks.stage_c import StageC
from .networks.tiling import decode_in_tiles, fitting_tile, free_memory
from .sampling import Callback, NoiseSource, sample, with_guidance
from .schedule import DEFAULT_STAGE_B_TIMESTEPS, DEFAULT_STAGE_C_TIMESTEPS

EMBEDDING_SCALE = 42.0
EMBEDDING_SHIFT = 1.0
"""Image embeddings are x * 42 - 1 of the x that Stage C samples (called latent_mean and latent_std in diffusers)."""


def _device(network: nn.Module, asked: torch.device | None) -> torch.device:
    return asked or next(network.parameters()).device


def _check_text(name: str, text: Tensor, width: int, batch: int, stage: str) -> Tensor:
    if text.ndim != 3 or text.shape[-1] != width or text.shape[0] not in (1, batch):
        raise InputError(
            f"{name} has shape {list(text.shape)}; this {stage} expects [{batch} or 1, tokens, {width}]. "
            f"Encode the prompt with the text encoder made for {stage}."
        )
    return text.expand(batch, -1, -1)


def _start(
    noise: NoiseSource, latents: Tensor | None, shape: tuple[int, int, int, int], device: torch.device
) -> Tensor:
    if latents is None:
        return noise.draw()
    if tuple(latents.shape) != shape:
        raise InputError(
            f"latents has shape {list(latents.shape)}; expected {list(shape)} for this size and these seeds."
        )
    return latents.to(device, torch.float32)


@torch.inference_mode()
def sample_stage_c(
    stage_c: StageC,
    positive: Tensor,
    negative: Tensor | None = None,
    *,
    width: int = 1024,
    height: int = 1024,
    seeds: Sequence[int],
    timesteps: Sequence[float] = DEFAULT_STAGE_C_TIMESTEPS,
    guidance_scale: float = 4.0,
    latents: Tensor | None = None,
    callback: Callback | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draw image embeddings for a text.

    Args:
        positive (Tensor): [batch or 1, tokens, c_cond], text embeddings of the prompt.
        negative (Tensor): the same of what to avoid, any number of tokens; None stands for all zeros.
        width, height: of the image, in pixels, each rounded up to a multiple of 128; crop the decoded image to it.
        seeds: one an image; their number is the batch.
        timesteps: ratios falling from 1 to 0.
        guidance_scale: strength of classifier-free guidance; 1 or less is none.
        latents (Tensor): [batch, 16, h, w], the noise to start from instead of the seeds' own.
        callback: called after each step.
        device: where to compute; None for where the weights are.
    Returns:
        Tensor: [batch, 16, height/42.67, width/42.67] of the size rounded up, float32.
    Raises:
        InputError: a size, a shape or the timesteps do not fit.
    """
    batch, device = len(seeds), _device(stage_c, device)
    width_of_text = stage_c.config.c_cond
    positive = _check_text("positive", positive, width_of_text, batch, "Stage C").to(device)
    shape = (stage_c.config.c_in, *Size(width, height).stage_c)
    noise = NoiseSource(seeds, shape, device)
    unconditional = None
    if guidance_scale > 1:
        negative = torch.zeros_like(positive) if negative is None else negative.to(device)
        unconditional = (_check_text("negative", negative, width_of_text, batch, "Stage C"),)
    denoise = with_guidance(stage_c.predict, (positive,), unconditional, guidance_scale, stage_c.condition)
    x = sample(denoise, _start(noise, latents, (batch, *shape), device), timesteps, noise, callback)
    return x * EMBEDDING_SCALE - EMBEDDING_SHIFT


@torch.inference_mode()
def sample_stage_b(
    stage_b: StageB,
    image_embeddings: Tensor,
    positive: Tensor | None = None,
    negative: Tensor | None = None,
    *,
    seeds: Sequence[int],
    timesteps: Sequence[float] = DEFAULT_STAGE_B_TIMESTEPS,
    guidance_scale: float = 0.0,
    callback: Callback | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draw Stage A's latents for image embeddings.

    Args:
        image_embeddings (Tensor): [batch, 16, h, w], Stage C's result; h and w are multiples of 3.
        positive (Tensor): [batch or 1, tokens, clip_embd], text embeddings; None for no text.
        negative (Tensor): the same of what to avoid, used with guidance only; None stands for all zeros.
        seeds: one an image.
        timesteps: ratios falling from 1 to 0.
        guidance_scale: strength of guidance against zero image embeddings and `negative`; 1 or less is none.
        callback: called after each step.
        device: where to compute; None for where the weights are.
    Returns:
        Tensor: [batch, 4, int(h*10.67), int(w*10.67)], float32, to be multiplied by Stage A's scale_factor.
    Raises:
        InputError: a shape or the timesteps do not fit.
    """
    batch, device = len(seeds), _device(stage_b, device)
    channels = stage_b.config.effnet_embd
    if image_embeddings.ndim != 4 or image_embeddings.shape[:2] != (batch, channels):
        raise InputError(
            f"image_embeddings has shape {list(image_embeddings.shape)}; expected [{batch}, {channels}, height, "
            "width]: Stage C's result, one seed an image. Stage A's latents (4 channels) go to Stage A instead."
        )
    if any(side % 3 for side in image_embeddings.shape[-2:]):
        raise InputError(
            f"image_embeddings has shape {list(image_embeddings.shape)}; expected sides that are multiples of 3, as "
            "Stage C gives them (128 pixels each). Crop or resize them."
        )
    image_embeddings = image_embeddings.to(device, torch.float32)
    if positive is not None:
        positive = _check_text("positive", positive, stage_b.config.clip_embd, batch, "Stage B").to(device)
    shape = (stage_b.config.c_in, *stage_b_size(*image_embeddings.shape[-2:]))
    noise = NoiseSource(seeds, shape, device)
    unconditional = None
    if guidance_scale > 1:
        if negative is not None:
            negative = _check_text("negative", negative, stage_b.config.clip_embd, batch, "Stage B").to(device)
        elif positive is not None:
            negative = torch.zeros_like(positive)
        unconditional = (torch.zeros_like(image_embeddings), negative)
    conditions = partial(stage_b.condition, size=shape[-2:])
    denoise = with_guidance(stage_b.predict, (image_embeddings, positive), unconditional, guidance_scale, conditions)
    return sample(denoise, noise.draw(), timesteps, noise, callback)


@torch.inference_mode()
def decode_stage_a(stage_a: StageA, latents: Tensor, *, tile: int | None = None) -> Tensor:
    """Decode latents to pixels.

    Args:
        latents (Tensor): [batch, 4, h, w], Stage B's result, before scale_factor.
        tile: side of the square pieces it is decoded in, in latent positions; None for one piece where that fits into
            memory, and for the largest that do elsewhere.
    Returns:
        Tensor: [batch, 3, 4h, 4w], float32 in 0..1.
    Raises:
        InputError: `latents` is not Stage B's result, or `tile` is too small.
    """
    channels = stage_a.config.latent_channels
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise InputError(
            f"latents has shape {list(latents.shape)}; expected [batch, {channels}, height, width]: Stage B's result. "
            "Image embeddings (16 channels) go through Stage B first."
        )
    weight = stage_a.out_block[0].get_parameter("weight")
    scaled = latents.to(weight.device, weight.dtype) * stage_a.config.scale_factor
    if tile is None:
        batch, _, height, width = scaled.shape
        a_position = batch * stage_a.decoding_values * scaled.dtype.itemsize
        tile = fitting_tile(height, width, a_position, free_memory(scaled.device))
    if tile is None:
        return stage_a.decode(scaled).float().clamp(0, 1)
    return decode_in_tiles(stage_a.decode, scaled, tile).clamp(0, 1)


@torch.inference_mode()
def encode_stage_a(stage_a: StageA, images: Tensor) -> Tensor:
    """Encode pixels to the latents that `decode_stage_a` takes.

    Args:
        images (Tensor): [batch, 3, height, width] in 0..1, sides divisible by 4.
    Returns:
        Tensor: [batch, 4, height/4, width/4], float32.
    Raises:
        InputError: the shape does not fit.
    """
    side = stage_a.config.up_down_scale_factor * 2 ** (stage_a.config.levels - 1)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % side or images.shape[3] % side:
        raise InputError(
            f"images has shape {list(images.shape)}; expected [batch, 3, height, width] with sides divisible by {side}."
        )
    weight = stage_a.out_block[0].get_parameter("weight")
    return stage_a.encode(images.to(weight.device, weight.dtype)).float() / stage_a.config.scale_factor
