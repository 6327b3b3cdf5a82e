"""Stage B Decode: image embeddings to Stage A's latents."""

from typing import Any, ClassVar

import wuerstchen_core
from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import stage_b_size

from .arguments import checked
from .host import host
from .memory import stage_b_memory
from .pictures import mask_of, pixels_of
from .sockets import (
    embedding_of,
    image_embeddings_of,
    latent_of,
    prompts_of,
    report_steps,
    seeds_of,
    stage_b_latents_of,
)
from .widgets import (
    STAGE_B_SCHEDULES,
    denoise_input,
    guidance_input,
    schedule_input,
    seed_input,
    steps_input,
    timesteps_of,
)


@checked
class StageBDecode:
    """Samples Stage A's latents for image embeddings."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Fills in the details that Stage C's image embeddings leave open, as the latents that Stage A VQGAN Decode "
        "turns into pixels. Another seed gives the same image with other details."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen decoder", "würstchen decoder", "stage b", "diffnext"]
    FUNCTION = "decode"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Latents of 4 channels, a quarter of the image's size, for Stage A VQGAN Decode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_b": ("WUERSTCHEN_STAGE_B", {"tooltip": "From Load Stage B."}),
                "latent": ("LATENT", {"tooltip": "From Stage C Sampler: image embeddings, 16 channels."}),
                "seed": seed_input(
                    "Seed of the noise, which decides small details only. Image i of a batch uses seed + i."
                ),
                "steps": steps_input(
                    12, "Denoising steps. 12 is the published number; cocktail needs 3 with the schedule early."
                ),
                "cfg": guidance_input(
                    0.0,
                    "How strongly the image embeddings and the prompt are followed. 1 or less turns it off, as "
                    "published, and takes half the time.",
                ),
            },
            "optional": {
                "positive": ("CONDITIONING", {"tooltip": "What to show, encoded for Stage B. Helps with details."}),
                "negative": (
                    "CONDITIONING",
                    {"tooltip": "What to avoid, encoded for Stage B. Used only if cfg is above 1."},
                ),
                "schedule": schedule_input(
                    "linear spreads the steps evenly, as published; early spends most of them where the noise is "
                    "strongest, which suits cocktail.",
                    STAGE_B_SCHEDULES,
                ),
                "start": (
                    "LATENT",
                    {
                        "tooltip": "Latents to change, from Stage A VQGAN Encode: 4 channels. With a mask (Set Latent "
                        "Noise Mask) the rest stays. Not needed to decode."
                    },
                ),
                "denoise": denoise_input("How much of start changes: 1 draws it anew."),
            },
        }

    def decode(
        self,
        stage_b: Any,
        latent: Any,
        seed: int,
        steps: int,
        cfg: float,
        positive: Any = None,
        negative: Any = None,
        schedule: str = "linear",
        start: Any = None,
        denoise: float = 1.0,
    ) -> tuple[dict[str, Any]]:
        embeddings = image_embeddings_of(latent)
        timesteps = timesteps_of(schedule, steps, denoise)
        there = mask = None
        if start is not None:
            there = stage_b_latents_of(start, "start", "Stage B Decode")
            mask = mask_of(start, *pixels_of(*embeddings.shape[-2:]), len(embeddings), "start")
        elif denoise < 1:
            raise InputError(
                f"denoise is {denoise} and start is not connected; expected 1, or latents to change. Connect Stage A "
                "VQGAN Encode to start."
            )
        text = without = None
        if positive is not None:
            text, without = prompts_of(positive, negative, "B")
        elif negative is not None:
            without = embedding_of(negative, "negative", "B")
        drawn = len(embeddings) * (2 if cfg > 1 else 1)
        memory = stage_b_memory(host().network_of(stage_b), drawn, *stage_b_size(*embeddings.shape[-2:]))
        with host().resident(stage_b, working_memory=memory) as network:
            latents = wuerstchen_core.sample_stage_b(
                network,
                embeddings,
                text,
                without,
                seeds=seeds_of(seed, latent),
                timesteps=timesteps,
                guidance_scale=cfg,
                start=there,
                strength=denoise,
                mask=mask,
                callback=report_steps(steps, "Stage B", network),
                device=host().device(),
            )
        return (latent_of(latents, like=latent),)
