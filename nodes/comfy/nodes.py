"""Nodes that convert to ComfyUI's MODEL, VAE and SIGMAS. They run inside ComfyUI only.

The definitions can be read anywhere; ComfyUI is imported when a node runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import STAGE_B_CHANNELS, STAGE_C_CHANNELS, Size, stage_b_size
from wuerstchen_core.networks.eight_bits import kept_dtype
from wuerstchen_core.networks.int8 import INT8

from ..arguments import checked
from ..host import host
from ..lazy import kept_of
from ..shown import shown
from ..sockets import asked_size, latent_of
from ..widgets import batch_size_input, denoise_input, schedule_input, size_inputs, steps_input, timesteps_of

if TYPE_CHECKING:
    from wuerstchen_core.networks.operations import Operations

CATEGORY = "wuerstchen/native"
"""Menu of these nodes."""


def _operations(network: torch.nn.Module) -> Operations:
    """Return the host's layers for the dtype of a network. Raises InputError: It is int8."""
    dtype = kept_dtype(network)
    if dtype == INT8:
        raise InputError(
            "The network is loaded in int8, which ComfyUI's own nodes cannot patch; expected another dtype. Choose "
            "float8_e4m3fn in its loader, or sample it with this pack's nodes."
        )
    return host().operations(dtype)


@checked
class StageCToModel:
    """Node that makes Stage C a MODEL."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes Stage C a MODEL for ComfyUI's own nodes: KSampler and every other sampler, LoRA loaders, model merging. "
        "Sample it on Empty Würstchen Latent, conditioned by Text Encode."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen model", "würstchen model", "prior to model", "ksampler"]
    FUNCTION = "convert"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("For KSampler and other nodes that take a MODEL.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C or Load LoRA."})}}

    def convert(self, stage_c: Any) -> tuple[Any]:
        from . import native

        network = host().network_of(kept_of(stage_c))
        return (native.stage_c_model(network, _operations(network)),)


@checked
class ModelToStageC:
    """Node that makes a MODEL Stage C again."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes a MODEL of Stage C to MODEL a Stage C again, with the LoRAs and merges that it went through in its "
        "weights, for Stage C Sampler, Interpolate Checkpoints and Save Stage C."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen lora", "model to prior", "bake lora", "apply lora", "merge"]
    FUNCTION = "convert"
    RETURN_TYPES = ("WUERSTCHEN_STAGE_C",)
    RETURN_NAMES = ("stage_c",)
    OUTPUT_TOOLTIPS = ("The network with its patches, for Stage C Sampler and Save Stage C.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("MODEL", {"tooltip": "From Stage C to MODEL, a LoRA loader or a merge."})}}

    def convert(self, model: Any) -> tuple[Any]:
        network = getattr(getattr(model, "model", None), "diffusion_model", None)
        if not isinstance(network, torch.nn.Module):
            raise InputError(f"model is {shown(model)}; expected a MODEL. Connect Stage C to MODEL.")
        from . import native

        network = native.stage_c_of(model, _operations(network))
        return (host().keep(network),)


@checked
class StageBToModel:
    """Node that makes Stage B a MODEL."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes Stage B a MODEL for ComfyUI's own nodes. Its image embeddings come through StableCascade_StageB_"
        "Conditioning, on a prompt encoded for Stage B; cfg 1 is the published setting."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen model", "würstchen decoder", "decoder to model", "ksampler"]
    FUNCTION = "convert"
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("For KSampler and other nodes that take a MODEL.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"stage_b": ("WUERSTCHEN_STAGE_B", {"tooltip": "From Load Stage B."})}}

    def convert(self, stage_b: Any) -> tuple[Any]:
        from . import native

        network = host().network_of(stage_b)
        return (native.stage_b_model(network, _operations(network)),)


@checked
class StageAToVAE:
    """Node that makes Stage A a VAE."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Makes Stage A a VAE for ComfyUI's own nodes: VAE Decode, VAE Encode and their tiled forms."
    SEARCH_ALIASES: ClassVar = ["wuerstchen vae", "würstchen vqgan", "vqgan to vae", "vae decode"]
    FUNCTION = "convert"
    RETURN_TYPES = ("VAE",)
    RETURN_NAMES = ("vae",)
    OUTPUT_TOOLTIPS = ("For VAE Decode and other nodes that take a VAE.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"stage_a": ("WUERSTCHEN_STAGE_A", {"tooltip": "From Load Stage A."})}}

    def convert(self, stage_a: Any) -> tuple[Any]:
        from . import vaes

        network = host().network_of(stage_a)
        return (vaes.StageAVAE(network, _operations(network)),)


@checked
class ImageEncoderToVAE:
    """Node that makes an image encoder a VAE."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes an image encoder a VAE for VAE Encode: its latent is Stage C's, for KSampler with a denoise below 1 on "
        "a Stage C to MODEL. It decodes nothing."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen vae", "würstchen image to image", "img2img", "effnet", "vae encode"]
    FUNCTION = "convert"
    RETURN_TYPES = ("VAE",)
    RETURN_NAMES = ("vae",)
    OUTPUT_TOOLTIPS = ("For VAE Encode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image_encoder": ("WUERSTCHEN_IMAGE_ENCODER", {"tooltip": "From Load Image Encoder."})}}

    def convert(self, image_encoder: Any) -> tuple[Any]:
        from . import vaes

        return (vaes.ImageEncoderVAE(host().network_of(image_encoder)),)


@checked
class WuerstchenSigmas:
    """Node that gives the published schedules as SIGMAS."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The schedule of Stage C (v2, 29 steps) or of Stage B (linear, 12 steps) as SIGMAS for SamplerCustomAdvanced. "
        "With the sampler ddpm the results equal those of Stage C Sampler and Stage B Decode."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen scheduler", "würstchen scheduler", "scheduler", "sigmas"]
    FUNCTION = "sigmas"
    RETURN_TYPES = ("SIGMAS",)
    RETURN_NAMES = ("sigmas",)
    OUTPUT_TOOLTIPS = ("For SamplerCustom and SamplerCustomAdvanced.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "steps": steps_input(29),
                "schedule": schedule_input(
                    "v2 spends two thirds of the steps on the first third of the noise; linear spreads them evenly; "
                    "early spends most of them where the noise is strongest."
                ),
                "denoise": denoise_input(
                    "Share of the schedule to run, from its end. Below 1 to change an existing latent."
                ),
            }
        }

    def sigmas(self, steps: int, schedule: str, denoise: float) -> tuple[torch.Tensor]:
        from wuerstchen_core.schedule import last_steps

        from . import native

        ratios = last_steps(timesteps_of(schedule, steps, denoise), denoise)
        return (native.sigmas_of(list(ratios)),)


@checked
class EmptyWuerstchenLatent:
    """Node that gives empty latents to start from."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Empty latents of Stage C and of Stage B for an image size, to be filled by a sampler."
    SEARCH_ALIASES: ClassVar = ["wuerstchen latent", "würstchen latent", "empty latent image"]
    FUNCTION = "make"
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = ("stage_c", "stage_b")
    OUTPUT_TOOLTIPS = ("16 channels, for Stage C's sampler.", "4 channels, for Stage B's sampler.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {**size_inputs(), "batch_size": batch_size_input()}}

    def make(self, width: int, height: int, batch_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
        embeddings = Size(width, height).stage_c
        stage_c = torch.zeros(batch_size, STAGE_C_CHANNELS, *embeddings)
        stage_b = torch.zeros(batch_size, STAGE_B_CHANNELS, *stage_b_size(*embeddings))
        size = asked_size(width, height)
        return latent_of(stage_c, like=size), latent_of(stage_b, like=size)


NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "WuerstchenStageCToModel": StageCToModel,
    "WuerstchenModelToStageC": ModelToStageC,
    "WuerstchenStageBToModel": StageBToModel,
    "WuerstchenStageAToVAE": StageAToVAE,
    "WuerstchenImageEncoderToVAE": ImageEncoderToVAE,
    "WuerstchenSigmas": WuerstchenSigmas,
    "WuerstchenEmptyLatent": EmptyWuerstchenLatent,
}
