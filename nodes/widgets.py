"""Inputs that several nodes share: seed, steps, schedule, image size and batch size."""

from collections.abc import Sequence
from typing import Any

from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import MAX_SIZE, STEP

LARGEST_SEED = 2**64 - 1
USE, RENEW, OFF = "use", "renew", "off"
"""Values of Keep on Disk's `mode`: pass on what is on disk, make it anew, or keep nothing."""
STAGE_C_SCHEDULES = ("v2", "linear")
STAGE_B_SCHEDULES = ("linear", "early")
SCHEDULES = ("v2", "linear", "early")

MIN_LINKED = "min_linked"
"""Option of a number: what may come through a link where that is less than the `min` of the widget."""

Entry = tuple[Any, dict[str, Any]]
"""Entry of INPUT_TYPES: type and options."""


def seed_input(tooltip: str) -> Entry:
    """Return the entry of a seed, with a control for the next run."""
    options = {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True, "tooltip": tooltip}
    return "INT", options


def steps_input(default: int, tooltip: str = "Denoising steps.") -> Entry:
    """Return the entry of a number of steps."""
    return "INT", {"default": default, "min": 1, "max": 1000, "tooltip": tooltip}


def schedule_input(tooltip: str, names: Sequence[str] = SCHEDULES) -> Entry:
    """Return the entry of a schedule's name, one of `names`; the first is the default."""
    return list(names), {"default": names[0], "tooltip": tooltip}


def guidance_input(default: float, tooltip: str) -> Entry:
    """Return the entry of a guidance scale."""
    return "FLOAT", {"default": default, "min": 0.0, "max": 20.0, "step": 0.1, "round": 0.01, "tooltip": tooltip}


def denoise_input(tooltip: str) -> Entry:
    """Return the entry of a share of a schedule."""
    return "FLOAT", {"default": 1.0, "min": 0.01, "max": 1.0, "step": 0.01, "tooltip": tooltip}


def size_inputs(more: str = "") -> dict[str, Entry]:
    """Return the entries of an image's width and height in pixels; `more` is added to their tooltips."""
    side = {"default": 256, "min": STEP, "max": MAX_SIZE, "step": STEP, MIN_LINKED: 1}
    return {
        name: ("INT", {**side, "tooltip": f"{name.capitalize()} of the image in pixels. {more}".strip()})
        for name in ("width", "height")
    }


def batch_size_input() -> Entry:
    """Return the entry of a batch size."""
    return "INT", {"default": 1, "min": 1, "max": 64, "tooltip": "Images drawn at once."}


def timesteps_of(schedule: str, steps: int, denoise: float = 1.0) -> list[float]:
    """Return the timestep ratios of a schedule: steps + 1 values falling from 1 to 0.

    Args:
        schedule: Its name.
        steps: Steps to run.
        denoise: Share of the schedule that they are, above 0. Below 1 there are as many values before them.
    Raises:
        InputError: There is no such schedule, `steps` is less than 1, or `denoise` is out of range.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"schedule is {schedule!r}; expected one of {', '.join(SCHEDULES)}.")
    from wuerstchen_core import schedule as core

    return core.SCHEDULES[schedule](core.whole_steps(steps, denoise))
