# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false
"""Stages C and B as ComfyUI's MODEL, for its samplers, LoRA loaders and merges.

A LATENT is the same as between this pack's nodes: Stage C's image embeddings, or Stage B's latents before Stage A's
scale. A MODEL shares its weights with the network it was made from until ComfyUI moves them.
"""

from collections.abc import Callable
from typing import Any

import comfy.conds
import comfy.float
import comfy.latent_formats
import comfy.lora
import comfy.model_base
import comfy.model_management as management
import comfy.model_sampling
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher, string_to_seed
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from wuerstchen_core import StageB, StageC
from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import EMBEDDING_SCALE, EMBEDDING_SHIFT, STAGE_B_CHANNELS, STAGE_C_CHANNELS
from wuerstchen_core.networks.operations import Operations
from wuerstchen_core.networks.rebuild import rebuild

from ..memory import stage_b_memory, stage_c_memory
from . import loras
from .checks import EMBEDDINGS, checked_stage_b, checked_stage_c, refuse_patches

SMALLEST_RATIO = 1 / 30
"""Timestep ratio that schedulers such as karras end at, before 0. The published schedule ends at 2/30; closer to 0 the
prediction is a quotient of two small numbers, in which samplers of higher order diverge."""
_PREFIX = "diffusion_model."
"""Prefix of a network's keys inside a MODEL."""


class ImageEmbeddings(comfy.latent_formats.LatentFormat):
    """Latent format of Stage C: image embeddings between nodes, the sampled x inside the sampler."""

    latent_channels = STAGE_C_CHANNELS

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent + EMBEDDING_SHIFT) / EMBEDDING_SCALE

    def process_out(self, latent: Tensor) -> Tensor:
        return latent * EMBEDDING_SCALE - EMBEDDING_SHIFT


class StageALatents(comfy.latent_formats.LatentFormat):
    """Latent format of Stage B: the same between nodes and inside the sampler."""

    latent_channels = STAGE_B_CHANNELS


class Sampling(comfy.model_sampling.StableCascadeSampling, comfy.model_sampling.EPS):
    """Cosine schedule of sigmas and timestep ratios; 1 is the largest ratio, 0 is no noise."""

    def timestep(self, sigma: Tensor) -> Tensor:
        ratio = super().timestep(sigma)
        # ComfyUI's schedule ends just below a ratio of 1, where the networks expect exactly 1.
        return torch.where(sigma >= self.sigma_max * (1 - 1e-5), torch.ones_like(ratio), ratio)

    @property
    def sigma_min(self) -> Tensor:
        return self.sigma(torch.tensor(SMALLEST_RATIO))


class _NativeStageC(StageC):
    """Stage C with the call of ComfyUI's diffusion models."""

    @property
    def dtype(self) -> torch.dtype:
        return self.projection.weight.dtype

    def forward(
        self, x: Tensor, timestep_ratio: Tensor, context: Tensor, *, transformer_options: dict[str, Any], **_: Any
    ) -> Tensor:
        return _predict(self, super().forward, x, timestep_ratio, context, transformer_options)


class _NativeStageB(StageB):
    """Stage B with the call of ComfyUI's diffusion models."""

    @property
    def dtype(self) -> torch.dtype:
        return self.clip_mapper.weight.dtype

    def forward(
        self,
        x: Tensor,
        timestep_ratio: Tensor,
        effnet: Tensor,
        context: Tensor | None = None,
        *,
        transformer_options: dict[str, Any],
        **_: Any,
    ) -> Tensor:
        return _predict(self, super().forward, x, timestep_ratio, effnet, context, transformer_options)


def _predict(network: StageB | StageC, forward: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Call a network through ComfyUI's wrappers of diffusion models, such as EasyCache's.

    Args:
        network: The network.
        forward: Its own forward.
        arguments: Those of `forward`, then ComfyUI's `transformer_options`.
    """
    options = arguments[-1]
    refuse_patches(options)
    wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
    return WrapperExecutor.new_class_executor(lambda *given: forward(*given[:-1]), network, wrappers).execute(
        *arguments
    )


class _StageCModel(comfy.model_base.BaseModel):
    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        return _text(kwargs)

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> int:
        return stage_c_memory(self.diffusion_model, input_shape[0], *input_shape[-2:])


class _StageBModel(comfy.model_base.BaseModel):
    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Return the conditions. A negative prompt without image embeddings gets zeros in their place."""
        noise: Tensor = kwargs["noise"]
        embeddings = kwargs.get(EMBEDDINGS)
        if embeddings is None:
            height, width = (round(side * 3 / 32) for side in noise.shape[-2:])
            embeddings = torch.zeros(1, STAGE_C_CHANNELS, height, width)
        return {**_text(kwargs), "effnet": comfy.conds.CONDRegular(embeddings.to(noise.device))}

    def memory_required(self, input_shape: Any, cond_shapes: Any = None) -> int:
        return stage_b_memory(self.diffusion_model, input_shape[0], *input_shape[-2:])


def stage_c_model(stage_c: StageC, operations: Operations) -> ModelPatcher:
    """Return Stage C as a MODEL, whose layers come from `operations` and share its weights."""
    loras.read_every_style()
    network = rebuild(stage_c, operations, kind=_NativeStageC)
    return _model(_StageCModel, network, ImageEmbeddings, checked_stage_c)


def stage_b_model(stage_b: StageB, operations: Operations) -> ModelPatcher:
    """Return Stage B as a MODEL, whose layers come from `operations` and share its weights."""
    network = rebuild(stage_b, operations, kind=_NativeStageB)
    return _model(_StageBModel, network, StageALatents, checked_stage_b)


def stage_c_of(model: ModelPatcher, operations: Operations) -> StageC:
    """Return the Stage C in a MODEL, with the LoRAs and merges that other nodes gave it in its weights.

    Args:
        model: Result of `stage_c_model`, or a copy of it that other nodes have patched. It is not changed.
        operations: Namespace that the new network's layers come from.
    Returns:
        StageC: Weights without a patch are shared with the MODEL, the others are new.
    Raises:
        InputError: The MODEL is not Stage C.
    """
    network = getattr(model.model, "diffusion_model", None)
    if not isinstance(network, _NativeStageC):
        raise InputError(
            f"model is a {type(network).__name__.removeprefix('_Native')}; expected a Stage C. Connect the MODEL of "
            "Stage C to MODEL, or what LoRA loaders and merges made of it."
        )
    weights: dict[str, Tensor] = {}
    for key, ((weight, _), *patches) in model.get_key_patches(_PREFIX).items():
        if patches:  # as ComfyUI computes them: in float32, one after the other
            patched = comfy.lora.calculate_weight(patches, weight.detach().float().clone(), key)
            weight = comfy.float.stochastic_rounding(patched, weight.dtype, seed=string_to_seed(key))
        weights[key.removeprefix(_PREFIX)] = weight.detach().to(model.offload_device)
    return rebuild(network, operations, kind=StageC, weights=weights)


class _Patcher(ModelPatcher):
    """Model of ComfyUI that refuses to be merged with a network of another kind or shape."""

    def add_patches(self, patches: Any, strength_patch: float = 1.0, strength_model: float = 1.0) -> Any:
        own = self.model.state_dict()
        loras.check_shapes(patches, own, _PREFIX)
        for key, patch in patches.items():
            if not isinstance(key, str) or not key.startswith(_PREFIX) or not isinstance(patch, list):
                continue  # a LoRA; a merge brings a list that begins with the other network's weight
            theirs, ours = patch[0][0].shape, own[key].shape if key in own else None
            if theirs != ours:
                raise InputError(
                    f"The two MODELs differ at {key.removeprefix(_PREFIX)!r}: one has "
                    f"{'no such weight' if ours is None else list(ours)}, the other {list(theirs)}. Only networks of "
                    "one stage and shape can be merged: choose a finetune of the same base."
                )
        return super().add_patches(patches, strength_patch, strength_model)


class _NoUnet(dict[str, Any]):
    """Config of a UNet, which these networks do not have, for nodes that read one."""

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"This node reads {key!r} of Stable Diffusion's UNet, and Würstchen has no UNet: nodes such as FreeU are "
            "made for other networks. Bypass it."
        )


def sigmas_of(ratios: list[float]) -> Tensor:
    """Convert timestep ratios falling from 1 to 0 to sigmas [steps + 1], float32; the last one is 0."""
    schedule = Sampling()
    return torch.cat([torch.stack([schedule.sigma(torch.tensor(ratio)) for ratio in ratios[:-1]]), torch.zeros(1)])


def _model(base: type, network: Any, latent_format: type, checked: Callable[..., Tensor]) -> ModelPatcher:
    """Wrap a network into a model of ComfyUI and that into a MODEL, whose runs go through `checked`."""
    config = comfy.supported_models_base.BASE({})
    config.unet_config = _NoUnet(disable_unet_model_creation=True)
    config.latent_format = latent_format()
    if network.latent_rgb is not None:  # ComfyUI's previews are in -1..1
        factors = network.latent_rgb * 2
        config.latent_format.latent_rgb_factors = factors[:-1].tolist()
        config.latent_format.latent_rgb_factors_bias = (factors[-1] - 1).tolist()
    config.manual_cast_dtype = torch.float32  # of the network's inputs; it computes in its own dtype
    device = management.unet_offload_device()
    model = base(config, comfy.model_base.ModelType.STABLE_CASCADE, device=device)
    model.diffusion_model = network
    model.model_sampling = Sampling(config)
    patcher = _Patcher(model, load_device=management.get_torch_device(), offload_device=device)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "wuerstchen", checked)
    return patcher


def _text(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the text embeddings as they are.

    ComfyUI repeats those of Stable Diffusion to a common length. Here every copy would add to the attention.
    """
    text = kwargs.get("cross_attn")
    return {} if text is None else {"c_crossattn": comfy.conds.CONDRegular(text)}
