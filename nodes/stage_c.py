"""Stage C: from the text to image embeddings."""

from typing import Any, ClassVar

import wuerstchen_core
from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import MAX_SIZE, STEP, Size

from .host import host
from .memory import stage_c_memory
from .sockets import asked_size, embedding_of, latent_of, report_steps

LARGEST_SEED = 2**64 - 1
SCHEDULES = ("v2", "linear")


def timesteps_of(schedule: str, steps: int) -> list[float]:
    """The timestep ratios of a schedule: steps + 1 values from 1 to 0.

    Raises:
        InputError: there is no such schedule, or `steps` is less than 1.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule is {schedule!r}; expected one of {', '.join(SCHEDULES)}.")
    return wuerstchen_core.v2_timesteps(steps) if schedule == "v2" else wuerstchen_core.linear_timesteps(steps)


class StageCSampler:
    """Draws image embeddings for a prompt."""

    CATEGORY = "wuerstchen/sampling"
    DESCRIPTION = (
        "Draws what the image shows, as image embeddings 42.67 times smaller than the image. This decides the picture; "
        "Stage B Decode and Stage A VQGAN Decode then make it visible. Its result can be saved, blended and decoded "
        "again with other seeds."
    )
    SEARCH_ALIASES: ClassVar = ["wuerstchen sampler", "würstchen prior", "wuerstchen prior", "stage c", "ksampler"]
    FUNCTION = "sample"
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("Image embeddings, 16 channels, for Stage B Decode.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 256, "min": STEP, "max": MAX_SIZE, "step": STEP}
        fitting = "cocktail draws 256 to 512, Würstchen v2 1024 to 1536."
        return {
            "required": {
                "stage_c": ("WUERSTCHEN_STAGE_C", {"tooltip": "From Load Stage C or Interpolate Checkpoints."}),
                "positive": ("CONDITIONING", {"tooltip": "What to show, encoded for Stage C."}),
                "negative": (
                    "CONDITIONING",
                    {"tooltip": "What to avoid, encoded for Stage C; encode an empty text to avoid nothing."},
                ),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": LARGEST_SEED,
                        "control_after_generate": True,
                        "tooltip": "Where the noise starts; the same seed gives the same image. Image i of a batch "
                        "uses seed + i.",
                    },
                ),
                "steps": (
                    "INT",
                    {"default": 29, "min": 1, "max": 1000, "tooltip": "Denoising steps. 29 is the published number."},
                ),
                "schedule": (
                    list(SCHEDULES),
                    {
                        "default": "v2",
                        "tooltip": "v2 spends two thirds of the steps on the first third of the noise, as published; "
                        "linear spreads them evenly.",
                    },
                ),
                "cfg": (
                    "FLOAT",
                    {
                        "default": 4.0,
                        "min": 0.0,
                        "max": 20.0,
                        "step": 0.1,
                        "round": 0.01,
                        "tooltip": "How strongly the prompt is followed, against the negative one. 1 or less turns it "
                        "off and takes half the time.",
                    },
                ),
                "width": ("INT", {**side, "tooltip": f"Of the image, in pixels. {fitting}"}),
                "height": ("INT", {**side, "tooltip": f"Of the image, in pixels. {fitting}"}),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 64, "tooltip": "Images drawn at once."}),
            }
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
    ) -> tuple[dict[str, Any]]:
        timesteps = timesteps_of(schedule, steps)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected at least 1.")
        size = asked_size(width, height)
        text, without = embedding_of(positive, "positive"), embedding_of(negative, "negative")
        drawn = batch_size * (2 if cfg > 1 else 1)
        memory = stage_c_memory(host().network_of(stage_c), drawn, *Size(width, height).stage_c)
        with host().resident(stage_c, working_memory=memory) as network:
            embeddings = wuerstchen_core.sample_stage_c(
                network,
                text,
                without,
                width=width,
                height=height,
                seeds=[seed + i for i in range(batch_size)],
                timesteps=timesteps,
                guidance_scale=cfg,
                callback=report_steps(steps, "Stage C", network.latent_rgb),
                device=host().device(),
            )
        return (latent_of(embeddings, like=size),)
