"""The four steps of the model: sample Stage C, sample Stage B, decode and encode with Stage A.

Each function takes a network and tensors, and returns a tensor on the device it computed on. They join the networks,
the sampler and the published scales.
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
"""Factor from the x that Stage C samples to image embeddings, which are x * 42 - 1 (latent_mean in diffusers)."""
EMBEDDING_SHIFT = 1.0
"""Number subtracted after the factor (latent_std in diffusers)."""


def _device(network: nn.Module, asked: torch.device | None) -> torch.device:
    """Return the device to compute on: the one asked for, or that of the weights."""
    return asked or next(network.parameters()).device


def _check_text(name: str, text: Tensor, width: int, batch: int, stage: str) -> Tensor:
    """Return text embeddings expanded to the batch; raise InputError where their shape does not fit."""
    if text.ndim != 3 or text.shape[-1] != width or text.shape[0] not in (1, batch):
        raise InputError(
            f"{name} has shape {list(text.shape)}; this {stage} expects [{batch} or 1, tokens, {width}]. "
            f"Encode the prompt with the text encoder made for {stage}."
        )
    return text.expand(batch, -1, -1)


def _start(
    noise: NoiseSource, latents: Tensor | None, shape: tuple[int, int, int, int], device: torch.device
) -> Tensor:
    """Return the latents to start from: the given ones, or fresh noise."""
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
    """Sample image embeddings for a text prompt.

    Args:
        stage_c: Network to sample with.
        positive (Tensor): [batch or 1, tokens, c_cond], text embeddings of the text prompt.
        negative (Tensor | None): [batch or 1, any tokens, c_cond], text embeddings of what to avoid, used with
            guidance only; None for all zeros.
        width: Width of the image in pixels, 1 to 8192. Rounded up to a multiple of 128; crop the decoded image to it.
        height: Height of the image in pixels, like `width`.
        seeds: One for each image; their number is the batch.
        timesteps: Ratios falling from 1 to 0.
        guidance_scale: Strength of classifier-free guidance; 1 or less is none.
        latents (Tensor | None): [batch, 16, h, w], noise to start from; None for noise from the seeds.
        callback: Function called after each step; None for none.
        device: Device to compute on; None for that of the weights.
    Returns:
        Tensor: [batch, 16, height/42.67, width/42.67] of the size rounded up, float32.
    Raises:
        InputError: A size, a shape or the timesteps do not fit.
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
    """Sample Stage A's latents for image embeddings.

    Args:
        stage_b: Network to sample with.
        image_embeddings (Tensor): [batch, 16, h, w], Stage C's result; h and w are multiples of 3.
        positive (Tensor | None): [batch or 1, tokens, clip_embd], text embeddings of the text prompt; None for no text.
        negative (Tensor | None): [batch or 1, tokens, clip_embd], text embeddings of what to avoid, used with guidance
            only; None for all zeros.
        seeds: One for each image.
        timesteps: Ratios falling from 1 to 0.
        guidance_scale: Strength of guidance against zero image embeddings and `negative`; 1 or less is none.
        callback: Function called after each step; None for none.
        device: Device to compute on; None for that of the weights.
    Returns:
        Tensor: [batch, 4, int(h*10.67), int(w*10.67)], float32, latents before Stage A's scale_factor.
    Raises:
        InputError: A shape or the timesteps do not fit.
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
    """Decode latents to images.

    Args:
        stage_a: Network to decode with.
        latents (Tensor): [batch, 4, h, w], Stage B's result, before scale_factor.
        tile: Side of the square tiles to decode, in latent positions, at least 32. None decodes all at once, or in the
            largest tiles that fit into memory.
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
    """Encode images to the latents that `decode_stage_a` takes.

    Args:
        stage_a: Network to encode with.
        images (Tensor): [batch, 3, height, width] in 0..1, sides divisible by 4.
    Returns:
        Tensor: [batch, 4, height/4, width/4], float32.
    Raises:
        InputError: The shape does not fit.
    """
    side = stage_a.config.up_down_scale_factor * 2 ** (stage_a.config.levels - 1)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % side or images.shape[3] % side:
        raise InputError(
            f"images has shape {list(images.shape)}; expected [batch, 3, height, width] with sides divisible by {side}."
        )
    weight = stage_a.out_block[0].get_parameter("weight")
    return stage_a.encode(images.to(weight.device, weight.dtype)).float() / stage_a.config.scale_factor
