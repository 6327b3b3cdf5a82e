# pyright: reportMissingImports=false
"""Checks of a run of ComfyUI's samplers, in the words of this pack's own nodes.

ComfyUI's samplers take any latent, prompt and patch, so a wrong wire would give a picture of something else without a
word. Each check is a wrapper of ComfyUI's `outer_sample`: it sees the whole run before the first step.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import MAX_SIZE, STAGE_B_CHANNELS, STAGE_C_CHANNELS, STEP, Size, stage_b_size
from wuerstchen_core.images import mask_of_positions
from wuerstchen_core.schedule import LARGEST_LAST_RATIO

from ..sockets import check_stage

POSITIONS = 3
"""Stage C's positions for `STEP` pixels."""
STOCK_PIXELS = 8
"""Pixels that ComfyUI's nodes count for a position of a latent."""
LARGEST_SPREAD = 3.0
"""Standard deviation of Stage C's sampled x from which a run has diverged; about 1 is right."""
EMBEDDINGS = "stable_cascade_prior"
"""Key of a CONDITIONING for image embeddings, as StableCascade_StageB_Conditioning writes it."""

MASK = "denoise_mask"
"""Name of the argument for the mask of a run."""

STOP_BEFORE_THE_END = ("dpm_fast", "dpm_adaptive")
"""Samplers that leave the schedule's last noise in the result."""
LARGEST_REST = 0.05
"""Timestep ratio of the noise that a result may keep."""
FEWEST_STEPS = {"dpm_2_ancestral": 16, "dpmpp_3m_sde": 24}
"""Samplers whose steps are too coarse for Stage C below a number of steps, and that number."""

_UNHEEDED = {"control": "a ControlNet", "gligen": "a GLIGEN layout"}


def checked_stage_c(executor: Any, noise: Tensor, latent: Tensor, *run: Any, **more: Any) -> Tensor:
    """Sample Stage C, if everything fits it.

    Args:
        executor: ComfyUI's sampling, a callable with its guider as `class_obj`.
        noise (Tensor): [batch, 16, height, width].
        latent (Tensor): [batch, 16, height, width], image embeddings to start from.
        run: Sampler, sigmas and all else that ComfyUI passes.
        more: The same by name.
    Returns:
        Tensor: [batch, 16, height, width], image embeddings.
    Raises:
        InputError: A latent or a prompt is of another stage, a size is impossible, the schedule ends too early, the
            sampler does not suit it, or it diverged.
    """
    guider = executor.class_obj
    model = guider.model_patcher.model
    height, width = noise.shape[-2:]
    if noise.shape[1] != STAGE_C_CHANNELS:
        raise InputError(
            f"The latent has {noise.shape[1]} channels, as Stage B's or another model's; Stage C expects "
            f"{STAGE_C_CHANNELS}. Connect the stage_c output of Empty Würstchen Latent, or a result of Stage C."
        )
    if height % POSITIONS or width % POSITIONS or max(height, width) > Size(MAX_SIZE, MAX_SIZE).stage_c[0]:
        raise InputError(
            f"The latent is {width} x {height} positions; Stage C expects multiples of {POSITIONS}, {STEP} pixels "
            "each: 6 x 6 for 256 x 256 pixels. Connect the stage_c output of Empty Würstchen Latent; Empty Latent "
            "Image and nodes that resize or crop a latent count 8 pixels a position."
        )
    _check_latent(latent)
    for name, cond in _prompts(guider):
        _check_prompt(cond, name, "C", model.diffusion_model.config.c_cond)
        if "area" in cond and cond["area"][0] != "percentage":
            cond["area"] = _shares(cond["area"], height, width)
    _check_schedule(model, run[1], "Stage C", smallest=1)
    _check_sampler(model, run[0], run[1])
    run, more = _with_reduced_mask(run, more, noise)
    result = _sampled(executor, noise, latent, *run, **more)
    spread = float(model.process_latent_in(result).std())
    if not spread < LARGEST_SPREAD:
        raise InputError(
            f"The sampler diverged: its result spreads by {spread:.1f}, where about 1 is right. Take more steps, or "
            "another sampler or scheduler; ddpm with simple is the published pair."
        )
    return result


def checked_stage_b(executor: Any, noise: Tensor, latent: Tensor, *run: Any, **more: Any) -> Tensor:
    """Sample Stage B, if everything fits it. Arguments as for `checked_stage_c`, with 4 channels.

    Raises:
        InputError: A latent or a prompt is of another stage, the image embeddings are missing or of another size, an
            area is asked for, or the schedule ends too early.
    """
    guider = executor.class_obj
    model = guider.model_patcher.model
    if noise.shape[1] != STAGE_B_CHANNELS:
        raise InputError(
            f"The latent has {noise.shape[1]} channels, as Stage C's or another model's; Stage B expects "
            f"{STAGE_B_CHANNELS}. Connect the stage_b output of Empty Würstchen Latent; Stage C's result goes through "
            "StableCascade_StageB_Conditioning to the positive input."
        )
    _check_latent(latent)
    for name, cond in _prompts(guider):
        _check_prompt(cond, name, "B", model.diffusion_model.config.clip_embd)
        if "area" in cond:
            raise InputError(
                f"{name} carries an area; Stage B follows the image embeddings, which cover the whole picture. Set the "
                "area for Stage C."
            )
        if cond.get(EMBEDDINGS) is not None:
            _check_embeddings(cond[EMBEDDINGS], noise)
        elif name != "negative":
            raise InputError(
                f"{name} carries no image embeddings, without which Stage B draws nothing that was asked for. Put "
                "StableCascade_StageB_Conditioning before it, with Stage C's result."
            )
    _check_schedule(model, run[1], "Stage B", smallest=2)
    run, more = _with_reduced_mask(run, more, noise)
    return _sampled(executor, noise, latent, *run, **more)


def refuse_patches(options: dict[str, Any]) -> None:
    """Check that no other node has changed the network's attention or blocks.

    Args:
        options: ComfyUI's `transformer_options`.
    Raises:
        InputError: There is such a patch, which Würstchen's networks would not follow.
    """
    found = [*options.get("patches", {}), *options.get("patches_replace", {})]
    if found:
        raise InputError(
            f"The MODEL carries a patch for {', '.join(found)}, which Würstchen's networks do not follow: nodes such "
            "as FreeU, HyperTile, Token Merging, Self-Attention Guidance and Perturbed-Attention Guidance are made for "
            "other networks. Bypass the node that set it."
        )


def _sampled(
    executor: Any, noise: Tensor, latent: Tensor, sampler: Any, sigmas: Tensor, *run: Any, **more: Any
) -> Tensor:
    """Sample with each noise level once: between two equal ones some samplers divide by zero."""
    try:
        return executor(noise, latent, sampler, torch.unique_consecutive(sigmas), *run, **more)
    except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
        raise InputError(
            f"The sampler cannot solve its equations for this schedule of {len(sigmas) - 1} steps. Choose another "
            "scheduler or another number of steps."
        ) from error


def _with_reduced_mask(
    run: tuple[Any, ...], more: dict[str, Any], noise: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Reduce the run's mask to the latent's positions by maximum, where ComfyUI would interpolate.

    Args:
        run: Sampler, sigmas, the mask or None, and all else that ComfyUI passes.
        more: The same by name.
        noise (Tensor): [batch, channels, height, width].
    """

    def reduced(mask: Tensor) -> Tensor:
        return mask_of_positions(mask.reshape(-1, 1, *mask.shape[-2:]), *noise.shape[-2:])

    if isinstance(more.get(MASK), Tensor):
        return run, {**more, MASK: reduced(more[MASK])}
    if len(run) > 2 and isinstance(run[2], Tensor):
        return (*run[:2], reduced(run[2]), *run[3:]), more
    return run, more


def _prompts(guider: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the dictionary of every entry of the run's conditionings."""
    for name, conds in guider.conds.items():
        for cond in conds:
            yield name, cond


def _check_latent(latent: Tensor) -> None:
    if not bool(latent.isfinite().all()):
        raise InputError("The latent holds values that are not numbers (NaN or infinity). Make it again.")


def _check_prompt(cond: dict[str, Any], name: str, stage: str, width: int) -> None:
    check_stage(cond, name, stage)
    text = cond.get("cross_attn")
    if text is not None and text.shape[-1] != width:
        raise InputError(
            f"{name} has {text.shape[-1]} numbers a token; this Stage {stage} expects {width}. Encode the prompt by "
            f"Text Encode, with a Load Text Encoder of the same model whose for_stage is {stage}."
        )
    for what, values in ((name, text), (f"{name}, in its image embeddings,", cond.get(EMBEDDINGS))):
        if values is not None and not bool(values.isfinite().all()):
            raise InputError(f"{what} holds values that are not numbers (NaN or infinity). Make it again.")
    for key, meaning in _UNHEEDED.items():
        if cond.get(key) is not None:
            raise InputError(f"{name} carries {meaning}, which Würstchen does not follow. Bypass the node that set it.")


def _check_embeddings(embeddings: Tensor, noise: Tensor) -> None:
    channels, *size = embeddings.shape[1:]
    if channels != STAGE_C_CHANNELS or any(side % POSITIONS for side in size):
        raise InputError(
            f"The image embeddings have {channels} channels and {size[1]} x {size[0]} positions; expected "
            f"{STAGE_C_CHANNELS} channels and multiples of {POSITIONS}. Connect Stage C's result to "
            "StableCascade_StageB_Conditioning as it is."
        )
    height, width = stage_b_size(*size)
    if tuple(noise.shape[-2:]) != (height, width):
        raise InputError(
            f"The latent is {noise.shape[-1]} x {noise.shape[-2]} positions; for these image embeddings Stage B "
            f"expects {width} x {height}, 4 pixels each. Connect the stage_b output of Empty Würstchen Latent, with "
            "the size that Stage C was sampled for. Nodes that make, resize or crop a latent count 8 pixels a "
            "position, so give them twice the size."
        )


def _check_schedule(model: Any, sigmas: Tensor, stage: str, smallest: int) -> None:
    """Raise InputError where the last of at least `smallest` steps has to remove nearly all of the noise."""
    steps = len(sigmas) - 1
    if steps < smallest or float(sigmas[-1]) > 0:
        return
    ratio = float(model.model_sampling.timestep(sigmas[-2]))
    if ratio > LARGEST_LAST_RATIO:
        raise InputError(
            f"The schedule of {steps} steps leaves the last step at a timestep ratio of {ratio:.2f}, from which "
            f"{stage} cannot reach the image in one step; expected at most {LARGEST_LAST_RATIO}. linear_quadratic does "
            "so with up to about 90 steps, and every scheduler with 1. Choose another scheduler, such as simple, or "
            "more steps."
        )


def _check_sampler(model: Any, sampler: Any, sigmas: Tensor) -> None:
    """Raise InputError where a sampler of ComfyUI is known to give another picture than was asked for."""
    function = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
    name = function.removeprefix("sample_").removesuffix("_function").removesuffix("_gpu")
    steps = len(sigmas) - 1
    start, rest = (float(model.model_sampling.timestep(sigmas[i])) for i in (0, max(0, steps - 1)))
    if name in STOP_BEFORE_THE_END and rest > LARGEST_REST and float(sigmas[-1]) == 0:
        raise InputError(
            f"{name} stops at the schedule's last noise, here a timestep ratio of {rest:.2f}, and leaves it in the "
            f"image; expected at most {LARGEST_REST}. Choose a scheduler that ends lower, such as karras, or take more "
            "steps."
        )
    fewest = FEWEST_STEPS.get(name, 0)
    if steps < fewest and start == 1:
        raise InputError(
            f"{name} takes steps that are too coarse for Stage C with {steps} of them; expected at least {fewest}. "
            "Take more steps, or another sampler, such as ddpm or dpmpp_2m."
        )


def _shares(area: tuple[int, ...], height: int, width: int) -> tuple[str, float, float, float, float]:
    """Convert an area that a stock node counted in positions of 8 pixels to shares of the picture.

    Args:
        area: Height, width, top and left.
        height: Height of Stage C's latent, in positions.
        width: Width of Stage C's latent, in positions.
    """
    tall, wide = (side / POSITIONS * STEP / STOCK_PIXELS for side in (height, width))
    return ("percentage", area[0] / tall, area[1] / wide, area[2] / tall, area[3] / wide)
