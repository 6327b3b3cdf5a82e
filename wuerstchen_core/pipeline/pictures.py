"""A picture to images: vary it, redraw it after a prompt, or redraw a part of it."""

from os import PathLike
from typing import TYPE_CHECKING, TypedDict

from ..checkpoints.presets import DEFAULT_MODEL, DEFAULT_SEED, family
from ..geometry import Size
from ..images import pad_to_steps
from ..stages import encode_stage_a, encode_stage_c
from .advice import warn
from .pixels import colours_of, mask_of, open_picture, to_tensor
from .run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from PIL.Image import Image
    from typing_extensions import Unpack

    from ..checkpoints.loading import Device
    from ..text.chunks import Embedding
    from .run import Progress


class Settings(TypedDict, total=False):
    """Further arguments of the functions below, with the meaning that they have for `generate`."""

    model: str
    batch_size: int
    steps: int
    guidance_scale: float | None
    stage_b_steps: int | None
    stage_b_guidance_scale: float | None
    weights: bool
    embeddings: "Mapping[str, Embedding] | None"
    device: "Device"
    dtype: "torch.dtype | None"
    download: bool
    callback: "Progress | None"


def image_to_image(
    image: "Image | str | PathLike[str]",
    prompt: str,
    *,
    strength: float | None = None,
    negative_prompt: str = "",
    seed: int = DEFAULT_SEED,
    **settings: "Unpack[Settings]",
) -> "list[Image]":
    """Redraw a picture after a text prompt.

    Args:
        image: Picture, or the path of one, of any size to 8192 pixels a side. Transparency is dropped.
        prompt: Text prompt of what the result shows.
        strength: Share of Stage C's schedule that is run: 0.001, where the picture stays, to 1, which is text to
            image. `steps` counts the steps of that share. None for the one that suits the model: 0.03 for cocktail, in
            whose pictures the prompt outweighs little noise, and 0.4 for the published ones.
        negative_prompt: Text prompt of what to avoid.
        seed: Seed of the first image.
        settings: `model`, `batch_size`, `steps`, `guidance_scale`, `stage_b_steps`, `stage_b_guidance_scale`,
            `weights`, `embeddings`, `device`, `dtype`, `download` and `callback`, as for `generate`.
    Returns:
        list[PIL.Image.Image]: `batch_size` images, RGB, of the picture's size.
    Raises:
        InputError: The picture cannot be read, or an argument is out of range.
        WeightsMissingError: The model is not on this machine; raised before any work.
        CheckpointError: The model is damaged.
    """
    if strength is None:
        strength = family(settings.get("model", DEFAULT_MODEL)).image_strength
    run = Run(reads_pictures=True, strength=strength, seed=seed, **settings)
    picture = colours_of(open_picture(image))
    size = Size(*picture.size)
    run.warn_of(size)
    start = encode_stage_c(run.image_encoder(), to_tensor(picture))
    image_embeddings = run.sample_stage_c(size, prompt, negative_prompt, start)
    return run.decode(run.sample_stage_b(image_embeddings, prompt), size)


def vary(
    image: "Image | str | PathLike[str]",
    *,
    strength: float | None = None,
    prompt: str = "",
    seed: int = DEFAULT_SEED,
    **settings: "Unpack[Settings]",
) -> "list[Image]":
    """Draw variations of a picture: the same content with another arrangement and other details.

    Args:
        image: Picture, or the path of one; see `image_to_image`.
        strength: Share of Stage C's schedule that is run; more gives variations that differ more. None for the one
            that suits the model.
        prompt: What the picture shows, if the variations should keep to it. Without one there is no guidance.
        seed: Seed of the first variation.
        settings: As for `image_to_image`.
    Returns:
        list[PIL.Image.Image]: `batch_size` images, RGB, of the picture's size.
    Raises:
        InputError, WeightsMissingError, CheckpointError: As for `image_to_image`.
    """
    if strength is None:
        strength = family(settings.get("model", DEFAULT_MODEL)).vary_strength
    if not prompt:
        settings.setdefault("guidance_scale", 1.0)
    return image_to_image(image, prompt, strength=strength, seed=seed, **settings)


def inpaint(
    image: "Image | str | PathLike[str]",
    mask: "Image | str | PathLike[str]",
    prompt: str,
    *,
    strength: float = 1.0,
    negative_prompt: str = "",
    seed: int = DEFAULT_SEED,
    **settings: "Unpack[Settings]",
) -> "list[Image]":
    """Redraw a part of a picture after a text prompt. The other pixels keep their bytes.

    Args:
        image: Picture, or the path of one; see `image_to_image`.
        mask: Picture of the same size, or the path of one: white where it is drawn anew, black where it stays; gray
            blends the two. One of another size is stretched.
        prompt: Text prompt of what the part shows.
        strength: As for `image_to_image`; 1 forgets what was in the part.
        negative_prompt: Text prompt of what to avoid.
        seed: Seed of the first image.
        settings: As for `image_to_image`.
    Returns:
        list[PIL.Image.Image]: `batch_size` images, RGB, of the picture's size.
    Raises:
        InputError, WeightsMissingError, CheckpointError: As for `image_to_image`.
    """
    from PIL import Image

    run = Run(reads_pictures=True, strength=strength, seed=seed, **settings)
    picture = colours_of(open_picture(image))
    size = Size(*picture.size)
    gray = mask_of(open_picture(mask, "mask"), size)
    run.warn_of(size)
    if gray.getextrema() == (0, 0):
        warn("The mask is black all over, so the picture stays as it is.")
        return [picture.copy() for _ in run.seeds]
    pixels, drawn = to_tensor(picture), pad_to_steps(to_tensor(gray))
    start = encode_stage_c(run.image_encoder(), pixels)
    image_embeddings = run.sample_stage_c(size, prompt, negative_prompt, start, drawn)
    latents = encode_stage_a(run.stage_a(), pad_to_steps(pixels))
    latents = run.sample_stage_b(image_embeddings, prompt, latents, drawn)
    return [Image.composite(result, picture, gray) for result in run.decode(latents, size)]
