"""The steps of the model: sample Stage C, sample Stage B, decode with Stage A; and encode an image for each of them.

Each function takes a network and tensors, and returns a tensor on the device it computed on. They join the networks,
the sampler and the published scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .errors import InputError
from .geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT, Size, stage_b_size
from .images import mask_of_positions, pad_to_steps
from .networks.finite import finite, is_finite
from .networks.image_encoder import ImageEncoder
from .networks.stage_a import StageA
from .networks.stage_b import StageB
from .networks.stage_c import StageC
from .networks.tiling import decode_in_tiles, fitting_tile, free_memory
from .sampling import Callback, Denoiser, Known, NoiseSource, add_noise, check_timesteps, sample, with_guidance
from .schedule import DEFAULT_STAGE_B_TIMESTEPS, DEFAULT_STAGE_C_TIMESTEPS, last_steps


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


MASK_SEED = 2**63
"""Number added to the seed of an image for the noise of what a mask keeps, so that it takes none of the run's own."""


@dataclass(frozen=True)
class _Run:
    """Latents of a run, which begins with noise or with latents that are there.

    Attributes:
        seeds: One for each image.
        shape: Channels, height and width of a latent.
        timesteps: Ratios of the whole schedule.
        strength: Share of it that is run.
        start (Tensor | None): [batch or 1, channels, height, width], finished latents to start from, as the network
            sees them; None for noise alone.
        mask (Tensor | None): [batch or 1, 1, any height, any width] in 0..1; None draws all anew.
        context: Timestep ratio from which the run sees what the mask keeps.
        device: Device of the computation.
    """

    seeds: Sequence[int]
    shape: tuple[int, int, int]
    timesteps: Sequence[float]
    strength: float
    start: Tensor | None
    mask: Tensor | None
    context: float
    device: torch.device

    def sample(self, denoise: Denoiser, callback: Callback | None, noise: Tensor | None = None) -> Tensor:
        """Return the finished latents.

        Args:
            denoise: The network.
            callback: Function called after each step.
            noise (Tensor | None): [batch, channels, height, width], to begin with; None for that of the seeds.
        Raises:
            InputError: A shape does not fit.
        """
        batch, timesteps = len(self.seeds), last_steps(self.timesteps, self.strength)
        check_timesteps(timesteps)
        source = NoiseSource(self.seeds, self.shape, self.device)
        x = source.draw() if noise is None else self._checked("latents", noise, (batch,))
        if self.start is None:
            if self.mask is not None or self.strength < 1:
                raise InputError("mask and strength change latents that are there; give them as start.")
            return sample(denoise, x, timesteps, source, callback)
        start = self._checked("start", self.start, (1, batch)).expand_as(x)
        known = None
        if self.mask is not None:
            mask = mask_of_positions(self.mask, *self.shape[1:]).to(self.device)
            if len(mask) not in (1, batch):
                raise InputError(f"mask has {len(mask)} masks; expected 1, or {batch} as there are seeds.")
            if not bool((mask == 1).all()):  # else nothing is kept, and the run is text to image to the byte
                apart = NoiseSource([seed + MASK_SEED for seed in self.seeds], self.shape, self.device)
                known = Known(start, mask, apart.draw(), self.context)
        return sample(denoise, add_noise(start, x, timesteps[0]), timesteps, source, callback, known)

    def _checked(self, name: str, latents: Tensor, batches: tuple[int, ...]) -> Tensor:
        if latents.ndim != 4 or len(latents) not in batches or tuple(latents.shape[1:]) != self.shape:
            expected = [" or ".join(map(str, dict.fromkeys(batches))), *self.shape]
            raise InputError(
                f"{name} has shape {list(latents.shape)}; expected [{', '.join(map(str, expected))}] for this size and "
                "these seeds."
            )
        return latents.to(self.device, torch.float32)


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
    start: Tensor | None = None,
    strength: float = 1.0,
    mask: Tensor | None = None,
    context: float = 1.0,
    callback: Callback | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Sample image embeddings for a text prompt.

    With `start`, image embeddings that are there are changed; those of a picture come from `encode_stage_c`.

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
        start (Tensor | None): [batch or 1, 16, h, w], image embeddings to change; None to draw from noise.
        strength: Share of the timesteps that is run, from their end: 0.001, where `start` stays, to 1, which is text
            to image and forgets `start`.
        mask (Tensor | None): [batch or 1, 1, any height, any width] in 0..1, over the whole size rounded up: 1 to draw
            anew, 0 to keep `start`. A position is drawn anew where any of its pixels is to be. None to change all.
        context: Timestep ratio from which the run sees what `mask` keeps: 1 to draw what fits it, 0 to draw as if it
            was not there, for a model such as cocktail that knows pictures of one thing.
        callback: Function called after each step; None for none.
        device: Device to compute on; None for that of the weights.
    Returns:
        Tensor: [batch, 16, height/42.67, width/42.67] of the size rounded up, float32.
    Raises:
        InputError: A size, a shape or the timesteps do not fit.
        CheckpointError: The result is not finite.
    """
    batch, device = len(seeds), _device(stage_c, device)
    width_of_text = stage_c.config.c_cond
    positive = _check_text("positive", positive, width_of_text, batch, "Stage C").to(device)
    shape = (stage_c.config.c_in, *Size(width, height).stage_c)
    start = None if start is None else (start + EMBEDDING_SHIFT) / EMBEDDING_SCALE
    run = _Run(seeds, shape, timesteps, strength, start, mask, context, device)
    unconditional = None
    if guidance_scale > 1:
        negative = torch.zeros_like(positive) if negative is None else negative.to(device)
        unconditional = (_check_text("negative", negative, width_of_text, batch, "Stage C"),)
    denoise = with_guidance(stage_c.predict, (positive,), unconditional, guidance_scale, stage_c.condition)
    sampled = run.sample(denoise, callback, latents) * EMBEDDING_SCALE - EMBEDDING_SHIFT
    given = {"positive": positive, "negative": negative, "latents": latents, "start": start, "mask": mask}
    return finite(sampled, stage_c, "Stage C", **given)


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
    start: Tensor | None = None,
    strength: float = 1.0,
    mask: Tensor | None = None,
    callback: Callback | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Sample Stage A's latents for image embeddings.

    With `start`, latents that are there are changed; those of a picture come from `encode_stage_a`.

    Args:
        stage_b: Network to sample with.
        image_embeddings (Tensor): [batch, 16, h, w], Stage C's result; h and w are multiples of 3.
        positive (Tensor | None): [batch or 1, tokens, clip_embd], text embeddings of the text prompt; None for no text.
        negative (Tensor | None): [batch or 1, tokens, clip_embd], text embeddings of what to avoid, used with guidance
            only; None for all zeros.
        seeds: One for each image.
        timesteps: Ratios falling from 1 to 0.
        guidance_scale: Strength of guidance against zero image embeddings and `negative`; 1 or less is none.
        start (Tensor | None): [batch or 1, 4, int(h*10.67), int(w*10.67)], latents to change; None to draw from noise.
        strength: As for `sample_stage_c`.
        mask (Tensor | None): As for `sample_stage_c`.
        callback: Function called after each step; None for none.
        device: Device to compute on; None for that of the weights.
    Returns:
        Tensor: [batch, 4, int(h*10.67), int(w*10.67)], float32, latents before Stage A's scale_factor.
    Raises:
        InputError: A shape or the timesteps do not fit.
        CheckpointError: The result is not finite.
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
    unconditional = None
    if guidance_scale > 1:
        if negative is not None:
            negative = _check_text("negative", negative, stage_b.config.clip_embd, batch, "Stage B").to(device)
        elif positive is not None:
            negative = torch.zeros_like(positive)
        unconditional = (torch.zeros_like(image_embeddings), negative)
    conditions = partial(stage_b.condition, size=shape[-2:])
    denoise = with_guidance(stage_b.predict, (image_embeddings, positive), unconditional, guidance_scale, conditions)
    sampled = _Run(seeds, shape, timesteps, strength, start, mask, 1.0, device).sample(denoise, callback)
    given: dict[str, Tensor | None] = {"positive": positive, "negative": negative, "start": start, "mask": mask}
    return finite(sampled, stage_b, "Stage B", image_embeddings=image_embeddings, **given)


@torch.inference_mode()
def encode_stage_c(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """Encode images to the image embeddings that Stage B takes, and that Stage C changes as its `start`.

    Args:
        encoder: Network to encode with.
        images (Tensor): [batch, 3, height, width] in 0..1, sides of 1 to 8192. Sides that are no multiples of 128 are
            filled up by repeating the right and the bottom edge; crop the decoded image to its size.
    Returns:
        Tensor: [batch, 16, height/42.67, width/42.67] of the size rounded up, float32.
    Raises:
        InputError: The shape does not fit.
        CheckpointError: The result is not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise InputError(f"images has shape {list(images.shape)}; expected [batch, 3, height, width].")
    if not is_finite(images):
        raise InputError(
            "images holds values that are NaN or infinite; expected numbers in 0..1. Load the picture anew."
        )
    padded = pad_to_steps(images)
    # One after the other, so that an image has the same embeddings alone and in a batch.
    encoded = torch.cat([encoder(padded[index : index + 1]) for index in range(len(padded))])
    return finite(encoded, encoder, "The image encoder")


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
        CheckpointError: The image is not finite.
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
    whole = stage_a.decode(scaled).float() if tile is None else decode_in_tiles(stage_a.decode, scaled, tile)
    return finite(whole, stage_a, "Stage A", latents=latents).clamp(0, 1)


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
        CheckpointError: The result is not finite.
    """
    side = stage_a.config.up_down_scale_factor * 2 ** (stage_a.config.levels - 1)
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % side or images.shape[3] % side:
        raise InputError(
            f"images has shape {list(images.shape)}; expected [batch, 3, height, width] with sides divisible by {side}."
        )
    weight = stage_a.out_block[0].get_parameter("weight")
    encoded = stage_a.encode(images.to(weight.device, weight.dtype)).float() / stage_a.config.scale_factor
    return finite(encoded, stage_a, "Stage A", images=images)
