"""Image to Stage C: pixels to image embeddings."""

from typing import Any, ClassVar

import wuerstchen_core

from .arguments import checked
from .host import host
from .memory import image_encoder_memory
from .pictures import images_of
from .sockets import asked_size, latent_of


@checked
class ImageEncode:
    """Encodes an image to image embeddings."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Turns an image into Stage C's image embeddings, 42.67 times smaller: for Stage C Sampler, which changes them, "
        "or straight for Stage B Decode. Sides that are no multiples of 128 are filled up; Stage A VQGAN Decode crops "
        "the image again."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen image encode", "würstchen image to image", "img2img", "effnet", "stage c"]
    FUNCTION = "encode"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Image embeddings, 16 channels, for Stage C Sampler or Stage B Decode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image_encoder": ("WUERSTCHEN_IMAGE_ENCODER", {"tooltip": "From Load Image Encoder."}),
                "image": ("IMAGE", {"tooltip": "Images of any size to 8192 pixels a side."}),
            }
        }

    def encode(self, image_encoder: Any, image: Any) -> tuple[dict[str, Any]]:
        pixels = images_of(image)
        height, width = pixels.shape[-2:]
        with host().resident(image_encoder, working_memory=image_encoder_memory(height, width)) as network:
            embeddings = wuerstchen_core.encode_stage_c(network, pixels)
        return (latent_of(embeddings, like=asked_size(width, height)),)
