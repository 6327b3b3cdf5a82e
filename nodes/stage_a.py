"""Stage A VQGAN Decode: latents to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import wuerstchen_core

from .host import host
from .memory import stage_a_memory
from .sockets import crop_to_asked, image_of, stage_b_latents_of

if TYPE_CHECKING:
    from torch import Tensor


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
