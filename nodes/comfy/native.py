# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false
"""Stages C and B as ComfyUI's own MODEL and Stage A as its VAE, so that its samplers, LoRAs and merges apply to them.

A LATENT means the same here as between this pack's nodes: Stage C's image embeddings, Stage B's latents before Stage
A's scale. Weights are shared with the network that a MODEL is made from, not copied, until ComfyUI moves them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as management
import comfy.model_sampling
import comfy.sd
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from wuerstchen_core import StageA, StageB, StageC
from wuerstchen_core.geometry import STAGE_B_CHANNELS, STAGE_C_CHANNELS
from wuerstchen_core.networks.blocks import Operations
from wuerstchen_core.stages import EMBEDDING_SCALE, EMBEDDING_SHIFT

from ..memory import stage_a_memory, stage_b_memory, stage_c_memory


class ImageEmbeddings(comfy.latent_formats.LatentFormat):
    """Stage C's latent: image embeddings outside, the x that is sampled inside."""

    latent_channels = STAGE_C_CHANNELS

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent + EMBEDDING_SHIFT) / EMBEDDING_SCALE

    def process_out(self, latent: Tensor) -> Tensor:
        return latent * EMBEDDING_SCALE - EMBEDDING_SHIFT


class StageALatents(comfy.latent_formats.LatentFormat):
    """Stage B's latent: the same outside and inside."""

    latent_channels = STAGE_B_CHANNELS


class Sampling(comfy.model_sampling.StableCascadeSampling, comfy.model_sampling.EPS):
    """The cosine schedule, on which a timestep ratio is a sigma: 1 is the largest, 0 is none."""

    def timestep(self, sigma: Tensor) -> Tensor:
        ratio = super().timestep(sigma)
        # The schedule is cut off just short of pure noise; there the networks expect 1.
        return torch.where(sigma >= self.sigma_max * (1 - 1e-5), torch.ones_like(ratio), ratio)


class _NativeStageC(StageC):
    """Stage C, called as ComfyUI calls a diffusion model."""

    @property
    def dtype(self) -> torch.dtype:
        return self.projection.weight.dtype

    def forward(self, x: Tensor, timestep_ratio: Tensor, context: Tensor, **_: Any) -> Tensor:
        return super().forward(x, timestep_ratio, context)


class _NativeStageB(StageB):
    """Stage B, called as ComfyUI calls a diffusion model."""

    @property
    def dtype(self) -> torch.dtype:
        return self.clip_mapper.weight.dtype

    def forward(
        self, x: Tensor, timestep_ratio: Tensor, effnet: Tensor, context: Tensor | None = None, **_: Any
    ) -> Tensor:
        return super().forward(x, timestep_ratio, effnet, context)


class _NativeStageA(StageA):
    """Stage A on latents before its scale, pixels in 0..1."""

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents * self.config.scale_factor)

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) / self.config.scale_factor


class _StageCModel(comfy.model_base.BaseModel):
    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        return _text(kwargs)

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> int:
        return stage_c_memory(self.diffusion_model, input_shape[0], *input_shape[-2:])


class _StageBModel(comfy.model_base.BaseModel):
    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """The image embeddings come from Stable Cascade's Stage B Conditioning; without any they are zero."""
        noise: Tensor = kwargs["noise"]
        embeddings = kwargs.get("stable_cascade_prior")
        if embeddings is None:
            height, width = (round(side * 3 / 32) for side in noise.shape[-2:])
            embeddings = torch.zeros(1, STAGE_C_CHANNELS, height, width)
        return {**_text(kwargs), "effnet": comfy.conds.CONDRegular(embeddings.to(noise.device))}

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> int:
        return stage_b_memory(self.diffusion_model, input_shape[0], *input_shape[-2:])


def stage_c_model(stage_c: StageC, operations: Operations) -> ModelPatcher:
    """Stage C as a MODEL."""
    return _model(_StageCModel, _sharing(_NativeStageC, stage_c, operations), ImageEmbeddings)


def stage_b_model(stage_b: StageB, operations: Operations) -> ModelPatcher:
    """Stage B as a MODEL."""
    return _model(_StageBModel, _sharing(_NativeStageB, stage_b, operations), StageALatents)


class StageAVAE(comfy.sd.VAE):
    """Stage A as a VAE."""

    def __init__(self, stage_a: StageA, operations: Operations) -> None:
        with _without("No VAE weights detected"):  # what a VAE has beside weights is set up first, whatever that is
            super().__init__(sd={})
        network = _sharing(_NativeStageA, stage_a, operations)
        self.first_stage_model = network
        self.downscale_ratio = self.upscale_ratio = 4
        self.latent_channels = STAGE_B_CHANNELS
        self.process_input = lambda image: image
        self.process_output = lambda image: image.clamp(0, 1)
        self.disable_offload = True
        self.memory_used_decode = lambda shape, dtype: stage_a_memory(network, *shape[-2:])
        self.memory_used_encode = lambda shape, dtype: stage_a_memory(network, shape[-2] // 4, shape[-1] // 4)
        self.vae_dtype = next(network.parameters()).dtype
        self.device = management.vae_device()
        self.output_device = management.intermediate_device()
        self.patcher = ModelPatcher(network, load_device=self.device, offload_device=management.vae_offload_device())
        self.model_size()


def sigmas_of(ratios: list[float]) -> Tensor:
    """Timestep ratios falling from 1 to 0 as sigmas [steps + 1], the last of them 0."""
    schedule = Sampling()
    return torch.cat([torch.stack([schedule.sigma(torch.tensor(ratio)) for ratio in ratios[:-1]]), torch.zeros(1)])


def _model(base: type, network: Any, latent_format: type) -> ModelPatcher:
    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
    config.latent_format = latent_format()
    if network.latent_rgb is not None:  # ComfyUI shows -1..1
        factors = network.latent_rgb * 2
        config.latent_format.latent_rgb_factors = factors[:-1].tolist()
        config.latent_format.latent_rgb_factors_bias = (factors[-1] - 1).tolist()
    config.manual_cast_dtype = torch.float32  # of what the network is given; it computes in its own
    device = management.unet_offload_device()
    model = base(config, comfy.model_base.ModelType.STABLE_CASCADE, device=device)
    model.diffusion_model = network
    model.model_sampling = Sampling(config)
    return ModelPatcher(model, load_device=management.get_torch_device(), offload_device=device)


def _sharing(kind: type, network: Any, operations: Operations) -> Any:
    """A network of another class with the same weights."""
    with torch.device("meta"):
        other = kind(network.config, operations)
    other.load_state_dict(network.state_dict(), strict=True, assign=True)
    for name in ("compute_dtype", "latent_rgb", "reads_weights"):
        if hasattr(network, name):
            setattr(other, name, getattr(network, name))
    return other.eval().requires_grad_(False)


def _text(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Unlike Stable Diffusion's, these text embeddings may not be repeated to a common length: every copy counts."""
    text = kwargs.get("cross_attn")
    return {} if text is None else {"c_crossattn": comfy.conds.CONDRegular(text)}


@contextmanager
def _without(message: str) -> Iterator[None]:
    """The root logger without one message."""

    def keep(record: logging.LogRecord) -> bool:
        return message not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
