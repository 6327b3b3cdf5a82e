"""Stage C Sampler: text embeddings to image embeddings."""

from typing import Any, ClassVar

import wuerstchen_core
from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import Size

from .arguments import checked
from .host import host
from .lazy import kept_of
from .memory import stage_c_memory
from .pictures import batch_of, mask_of, pixels_of
from .sockets import asked_size, image_embeddings_of, latent_of, prompts_of, report_steps, seeds_of
from .widgets import (
    STAGE_C_SCHEDULES,
    batch_size_input,
    denoise_input,
    guidance_input,
    schedule_input,
    seed_input,
    size_inputs,
    steps_input,
    timesteps_of,
)


@checked
class StageCSampler:
    """Samples image embeddings for a text prompt."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Samples image embeddings for a prompt, 42.67 times smaller than the image. They decide the image's content; "
        "Stage B Decode and Stage A VQGAN Decode then turn them into pixels. They can be saved, blended, and decoded "
        "again with other seeds. With a latent, it changes that one: image to image, and inpainting by a mask."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen sampler", "würstchen prior", "wuerstchen prior", "stage c", "ksampler"]
    FUNCTION = "sample"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Image embeddings, 16 channels, for Stage B Decode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C or Interpolate Checkpoints."}),
                "positive": ("CONDITIONING", {"tooltip": "What to show, encoded for Stage C."}),
                "negative": (
                    "CONDITIONING",
                    {"tooltip": "What to avoid, encoded for Stage C; encode an empty text to avoid nothing."},
                ),
                "seed": seed_input(
                    "Seed of the noise; the same seed gives the same image. Image i of a batch uses seed + i."
                ),
                "steps": steps_input(29, "Denoising steps. 29 is the published number."),
                "schedule": schedule_input(
                    "v2 spends two thirds of the steps on the first third of the noise, as published; linear spreads "
                    "them evenly.",
                    STAGE_C_SCHEDULES,
                ),
                "cfg": guidance_input(
                    4.0,
                    "How strongly the prompt is followed, against the negative one. 1 or less turns it off and takes "
                    "half the time.",
                ),
                **size_inputs("cocktail draws 256 to 512, Würstchen v2 1024 to 1536."),
                "batch_size": batch_size_input(),
            },
            "optional": {
                "latent": (
                    "LATENT",
                    {
                        "tooltip": "Image embeddings to change, from Image to Stage C or another sampler: 16 channels. "
                        "They decide the size. With a mask (Set Latent Noise Mask) the rest stays."
                    },
                ),
                "denoise": denoise_input(
                    "How much of latent changes: 1 draws it anew, less keeps its arrangement and colours. Steps counts "
                    "the steps that are run."
                ),
                "context": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.05,
                        "tooltip": "With a mask: how early the sampler sees what the mask keeps. 1 draws what fits it; "
                        "0 draws as if it was not there, for cocktail, which knows pictures of one figure.",
                    },
                ),
            },
        }

    def sample(
        self,
        stage_c: Any,
        positive: Any,
        negative: Any,
        seed: int,
        steps: int,
        schedule: str,
        cfg: float,
        width: int,
        height: int,
        batch_size: int,
        latent: Any = None,
        denoise: float = 1.0,
        context: float = 1.0,
    ) -> tuple[dict[str, Any]]:
        from wuerstchen_core.schedule import LARGEST_LAST_RATIO

        timesteps = timesteps_of(schedule, steps, denoise)
        if timesteps[-2] > LARGEST_LAST_RATIO:
            raise InputError(f"steps is {steps}; expected at least 2: one step cannot find an image in pure noise.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected at least 1.")
        start = mask = None
        if latent is None:
            if denoise < 1:
                raise InputError(
                    f"denoise is {denoise} and latent is not connected; expected 1, or a latent to change. Connect "
                    "Image to Stage C to latent."
                )
            latent = asked_size(width, height)
            seeds = [seed + i for i in range(batch_size)]
        else:
            start = image_embeddings_of(latent, "Stage C Sampler")
            width, height = pixels_of(*start.shape[-2:])
            batch_size = batch_of(start, batch_size)
            mask = mask_of(latent, width, height, batch_size)
            seeds = seeds_of(seed, latent) if len(start) == batch_size else [seed + i for i in range(batch_size)]
        text, without = prompts_of(positive, negative, "C")
        stage_c = kept_of(stage_c)
        drawn = batch_size * (2 if cfg > 1 else 1)
        memory = stage_c_memory(host().network_of(stage_c), drawn, *Size(width, height).stage_c)
        with host().resident(stage_c, working_memory=memory) as network:
            embeddings = wuerstchen_core.sample_stage_c(
                network,
                text,
                without,
                width=width,
                height=height,
                seeds=seeds,
                timesteps=timesteps,
                guidance_scale=cfg,
                start=start,
                strength=denoise,
                mask=mask,
                context=context,
                callback=report_steps(steps, "Stage C", network),
                device=host().device(),
            )
        return (latent_of(embeddings, like=latent),)
