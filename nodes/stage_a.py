"""Stage A: from latents to pixels."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from wuerstchen_core import StageA, decode_stage_a

from .host import host
from .sockets import crop_to_asked, image_of, stage_b_latents_of


def working_memory(stage_a: StageA, height: int, width: int) -> int:
    """Bytes that decoding one latent of that size takes beside the weights: about 2 KB a pixel in float32.

    Measured at the last residual block, where a map four times as wide as the image's own is alive 2.75 times.
    """
    return 22 * stage_a.config.embed_dim * height * width * stage_a.out_block[0].get_parameter("weight").itemsize


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
        latents = stage_b_latents_of(latent)
        update = host().progress(len(latents), "Stage A")
        images = []
        memory = working_memory(host().network_of(stage_a), *latents.shape[-2:])
        with host().resident(stage_a, working_memory=memory) as network:
            for done, one in enumerate(latents.split(1), start=1):
                images.append(image_of(decode_stage_a(network, one)))
                update(done, None)
        return (crop_to_asked(torch.cat(images), latent),)
