# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false
"""Stage A and the image encoder as ComfyUI's VAE, for VAE Encode, VAE Decode and what else takes one."""

from copy import deepcopy
from typing import Any

import comfy.model_management as management
import comfy.sd
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from wuerstchen_core import ImageEncoder, StageA, encode_stage_c
from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import STAGE_B_CHANNELS, STAGE_C_CHANNELS
from wuerstchen_core.networks.operations import Operations
from wuerstchen_core.networks.rebuild import rebuild

from ..memory import image_encoder_memory, stage_a_memory
from .logs import without


class _NativeStageA(StageA):
    """Stage A for latents before its scale."""

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents * self.config.scale_factor)

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) / self.config.scale_factor


class _VAE(comfy.sd.VAE):
    """Base of the VAEs: a network of this project with the services that ComfyUI's have.

    Args:
        network: The network, with `encode`, and `decode` if it has one.
        channels: Channels of its latents.
        ratio: Pixels along a position, by which ComfyUI crops an image.
    """

    def __init__(self, network: Any, channels: int, ratio: int) -> None:
        with without("No VAE weights detected"):  # set up all that a VAE has beside weights
            super().__init__(sd={})
        self.first_stage_model = network
        self.downscale_ratio = self.upscale_ratio = ratio
        self.latent_channels = channels
        self.process_input = lambda image: image
        self.process_output = lambda image: image.clamp(0, 1)
        self.disable_offload = True
        self.vae_dtype = next(network.parameters()).dtype
        self.device = management.vae_device()
        self.output_device = management.intermediate_device()
        self.patcher = ModelPatcher(network, load_device=self.device, offload_device=management.vae_offload_device())


class StageAVAE(_VAE):
    """Stage A as a VAE.

    Args:
        stage_a: Network whose weights are shared.
        operations: Namespace that the VAE's layers come from.
    """

    def __init__(self, stage_a: StageA, operations: Operations) -> None:
        network = rebuild(stage_a, operations, kind=_NativeStageA)
        super().__init__(network, STAGE_B_CHANNELS, ratio=4)
        self.memory_used_decode = lambda shape, dtype: stage_a_memory(network, *shape[-2:])
        self.memory_used_encode = lambda shape, dtype: stage_a_memory(network, shape[-2] // 4, shape[-1] // 4)


class _NativeImageEncoder(nn.Module):
    """An image encoder with the call of a VAE."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def encode(self, images: Tensor) -> Tensor:
        return encode_stage_c(self.encoder, images)


class ImageEncoderVAE(_VAE):
    """An image encoder as a VAE that encodes to Stage C's image embeddings.

    Args:
        encoder: Network to copy, since ComfyUI moves a VAE by itself.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        # Images are not cropped: the encoder fills them up to whole steps.
        super().__init__(_NativeImageEncoder(deepcopy(encoder)), STAGE_C_CHANNELS, ratio=1)
        self.memory_used_encode = lambda shape, dtype: image_encoder_memory(*shape[-2:])

    def encode_tiled(self, pixel_samples: Tensor, *_: Any, **__: Any) -> Tensor:
        """Encode whole images: the embeddings of tiles would not fit together."""
        return self.encode(pixel_samples)

    def decode(self, *_: Any, **__: Any) -> Tensor:
        """Raise InputError."""
        raise InputError(
            "An image encoder only encodes. Image embeddings become pixels through Stage B and Stage A: connect them "
            "to Stage B Decode."
        )

    decode_tiled = decode
