"""Stage A VQGAN Decode, latents to pixels, and Stage A VQGAN Encode, pixels to latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import wuerstchen_core

from .arguments import checked
from .host import host
from .memory import stage_a_memory
from .pictures import images_of
from .sockets import asked_size, crop_to_asked, image_of, latent_of, stage_b_latents_of

if TYPE_CHECKING:
    from torch import Tensor


@checked
class StageADecode:
    """Decodes latents to an image."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = "Turns Stage B's latents into pixels with the VQGAN, one image after the other."
    SEARCH_ALIASES: ClassVar = ["wuerstchen vae decode", "würstchen vqgan", "paella vqgan", "stage a", "vae decode"]
    FUNCTION = "decode"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The finished images.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_a": ("WUERSTCHEN_STAGE_A", {"tooltip": "From Load Stage A."}),
                "latent": ("LATENT", {"tooltip": "From Stage B Decode: 4 channels."}),
            }
        }

    def decode(self, stage_a: Any, latent: Any) -> tuple[Tensor]:
        import torch

        latents = stage_b_latents_of(latent)
        update = host().progress(len(latents), "Stage A")
        images = []
        memory = stage_a_memory(host().network_of(stage_a), *latents.shape[-2:])
        with host().resident(stage_a, working_memory=memory) as network:
            for done, one in enumerate(latents.split(1), start=1):
                images.append(image_of(wuerstchen_core.decode_stage_a(network, one)))
                update(done, None)
        return (crop_to_asked(torch.cat(images), latent),)


@checked
class StageAEncode:
    """Encodes an image to latents."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Turns an image into the latents that Stage A VQGAN Decode turns back into pixels, and that Stage B Decode can "
        "change. Sides that are no multiples of 128 are filled up; the decoder crops the image again."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen vae encode", "würstchen vqgan", "paella vqgan", "stage a", "vae encode"]
    FUNCTION = "encode"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Latents of 4 channels, a quarter of the image's size, for Stage B Decode's start.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_a": ("WUERSTCHEN_STAGE_A", {"tooltip": "From Load Stage A."}),
                "image": ("IMAGE", {"tooltip": "Images of any size to 8192 pixels a side."}),
            }
        }

    def encode(self, stage_a: Any, image: Any) -> tuple[dict[str, Any]]:
        import torch

        from wuerstchen_core.images import pad_to_steps

        pixels = images_of(image)
        size = asked_size(pixels.shape[-1], pixels.shape[-2])
        padded = pad_to_steps(pixels)
        memory = stage_a_memory(host().network_of(stage_a), *(side // 4 for side in padded.shape[-2:]))
        with host().resident(stage_a, working_memory=memory) as network:
            latents = [wuerstchen_core.encode_stage_a(network, one) for one in padded.split(1)]
        return (latent_of(torch.cat(latents), like=size),)
