"""Variations: image embeddings like those that are there."""

from typing import Any, ClassVar

from wuerstchen_core.checkpoints.presets import COCKTAIL

from .arguments import checked
from .stage_c import StageCSampler
from .widgets import seed_input, steps_input

NO_GUIDANCE = 1.0
"""Guidance scale at which a sampler follows no prompt more than it has learnt to."""


@checked
class Variations:
    """Samples variations of image embeddings."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Samples variations of one image: the same content with another arrangement and other details. It runs the end "
        "of Stage C's schedule on the image's embeddings, without guidance."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen variations", "würstchen variations", "vary", "image variation", "unclip"]
    FUNCTION = "vary"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Image embeddings of the variations, 16 channels, for Stage B Decode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C or Interpolate Checkpoints."}),
                "positive": (
                    "CONDITIONING",
                    {"tooltip": "What the image shows, or an empty text, encoded for Stage C."},
                ),
                "latent": ("LATENT", {"tooltip": "From Image to Stage C or a sampler: 16 channels."}),
                "seed": seed_input("Seed of the first variation. Variation i uses seed + i."),
                "steps": steps_input(29, "Denoising steps."),
                "strength": (
                    "FLOAT",
                    {
                        "default": COCKTAIL.vary_strength,
                        "min": 0.01,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "How much the variations differ from the image, as the share of the schedule that "
                        "is run.",
                    },
                ),
                "count": ("INT", {"default": 4, "min": 1, "max": 64, "tooltip": "Variations of each image."}),
            }
        }

    def vary(
        self, stage_c: Any, positive: Any, latent: Any, seed: int, steps: int, strength: float, count: int
    ) -> tuple[dict[str, Any]]:
        # The size is the latent's.
        side = 128
        return StageCSampler().sample(
            stage_c, positive, None, seed, steps, "v2", NO_GUIDANCE, side, side, count, latent, strength
        )
