"""What travels between nodes, checked on the way in and wrapped on the way out.

CONDITIONING is `[[tensor [batch, tokens, dim], {"pooled_output": tensor [batch, dim]}]]` and LATENT is
`{"samples": tensor [batch, channels, height, width]}`; IMAGE is a tensor [batch, height, width, 3] in 0..1. All are
float32, on the CPU unless the host says otherwise (a CONDITIONING always). These are ComfyUI's own formats, so that its
stock nodes work between ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from wuerstchen_core.errors import InputError
from wuerstchen_core.geometry import MAX_SIZE, STAGE_B_CHANNELS, STAGE_C_CHANNELS, Size

from .host import host

if TYPE_CHECKING:
    from torch import Tensor

    from wuerstchen_core.sampling import Step

SIZE_KEY = "wuerstchen_size"
"""Of a LATENT: the (width, height) in pixels asked for, where it had to be rounded up. Stock nodes pass it on."""

_UNHEEDED = {
    "area": "an area",
    "mask": "a mask",
    "control": "a ControlNet",
    "gligen": "a GLIGEN layout",
    "start_percent": "a range of timesteps",
    "hooks": "hooks",
}
"""Keys that stock nodes put into a CONDITIONING to say where or when it applies, which these samplers cannot follow."""


def conditioning_of(embedding: Tensor) -> list[list[Any]]:
    """Text embeddings [batch, tokens, dim] as a CONDITIONING.

    `pooled_output` is the mean over the tokens, [batch, dim]. Würstchen reads no pooled vector; it is there for the
    stock nodes that average or zero one.
    """
    embedding = embedding.float().cpu()
    return [[embedding, {"pooled_output": embedding.mean(dim=1)}]]


def embedding_of(conditioning: Any, name: str) -> Tensor:
    """The text embeddings [batch, tokens, dim] inside a CONDITIONING.

    Args:
        name: of the node's input, for the error.
    Raises:
        InputError: it is no CONDITIONING, holds several entries, NaNs, or something the samplers cannot follow.
    """
    if not isinstance(conditioning, list) or not conditioning:
        raise InputError(f"{name} is {_shown(conditioning)}; expected a CONDITIONING, such as Text Encode makes.")
    if len(conditioning) > 1:
        raise InputError(
            f"{name} holds {len(conditioning)} prompts (as Conditioning Combine makes); expected one. "
            "Join them with Conditioning Concat or Conditioning Average instead."
        )
    entry = conditioning[0]
    if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[1], Mapping):
        raise InputError(f"{name} holds {_shown(entry)}; expected a pair of a tensor and a dictionary.")
    embedding, options = entry
    if not _is_tensor(embedding) or embedding.ndim != 3 or not embedding.is_floating_point():
        raise InputError(f"{name} holds {_shown(embedding)}; expected numbers of shape [batch, tokens, dim].")
    for key, meaning in _UNHEEDED.items():
        if options.get(key) is not None:
            raise InputError(
                f"{name} carries {meaning} ({key!r}), which Würstchen's samplers do not follow. "
                "Bypass the node that set it."
            )
    return _finite(embedding.float(), name, "Encode the prompt again, or load the text encoder afresh.")


def image_embeddings_of(latent: Any) -> Tensor:
    """Stage C's result [batch, 16, height, width] inside a LATENT.

    Raises:
        InputError: it is no LATENT, or another stage's, or of a size that Stage B has no match for.
    """
    samples = _samples_of(latent)
    channels, height, width = samples.shape[1:]
    if channels != STAGE_C_CHANNELS:
        what = (
            "Stage B Decode's result (or another model's latent): Stage B's goes to Stage A VQGAN Decode"
            if channels == STAGE_B_CHANNELS
            else "not a Würstchen latent"
        )
        raise InputError(
            f"latent has {channels} channels, {what}. Stage B Decode expects the {STAGE_C_CHANNELS} channels of "
            "Stage C Sampler; connect that node's LATENT here."
        )
    most = Size(MAX_SIZE, MAX_SIZE).stage_c[0]
    if height % 3 or width % 3 or max(height, width) > most:
        raise InputError(
            f"latent is {width} x {height} positions; expected Stage C's: multiples of 3 (128 pixels "
            f"each), at most {most}. Crop or resize it to such a size, or connect Stage C Sampler's LATENT as it is."
        )
    return _finite(samples, "latent", "Sample Stage C again, in float32 or bfloat16 if it was float16.")


def stage_b_latents_of(latent: Any) -> Tensor:
    """Stage B's result [batch, 4, height, width] inside a LATENT.

    Raises:
        InputError: it is no LATENT, or another stage's.
    """
    samples = _samples_of(latent)
    channels = samples.shape[1]
    if channels != STAGE_B_CHANNELS:
        what = (
            "as Stage C Sampler's image embeddings have: connect them to Stage B Decode first, and its LATENT here"
            if channels == STAGE_C_CHANNELS
            else "not a Würstchen latent: connect Stage B Decode's LATENT here"
        )
        raise InputError(f"latent has {channels} channels, {what}. Stage A VQGAN Decode expects {STAGE_B_CHANNELS}.")
    return _finite(samples, "latent", "Run Stage B Decode again, in float32 or bfloat16 if it was float16.")


def latent_of(samples: Tensor, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A LATENT of `samples`, with whatever else `like`, the LATENT it was made from, carries."""
    return {**(like or {}), "samples": samples.to(host().intermediate_device()).float()}


def asked_size(width: int, height: int) -> dict[str, tuple[int, int]]:
    """What a LATENT carries of an image size in pixels: nothing where whole steps of 128 draw it as it is."""
    size = Size(width, height)
    return {} if size == size.rounded else {SIZE_KEY: (width, height)}


def crop_to_asked(images: Tensor, latent: Mapping[str, Any]) -> Tensor:
    """Images [batch, height, width, 3] cropped from the top left to the size that their LATENT was asked for.

    They are left as they are where that size is not known, or where a node between has resized the latent.
    """
    if SIZE_KEY not in latent:
        return images
    size = Size(*latent[SIZE_KEY])
    if tuple(images.shape[1:3]) != (size.rounded.height, size.rounded.width):
        return images
    return images[:, : size.height, : size.width].contiguous()


def image_of(pixels: Tensor) -> Tensor:
    """Pixels [batch, 3, height, width] in 0..1 as an IMAGE."""
    return pixels.movedim(1, -1).to(host().intermediate_device()).float().contiguous()


def seeds_of(seed: int, latent: Mapping[str, Any]) -> list[int]:
    """One seed an image of the LATENT: seed + i for image i.

    i counts in the batch that the image was drawn in, which stock nodes keep in `batch_index`: an image taken out of a
    batch stays the same image.
    """
    count = len(latent["samples"])
    indices = latent.get("batch_index")
    if not isinstance(indices, list) or len(indices) != count:
        indices = range(count)
    return [seed + index for index in indices]


def report_steps(steps: int, label: str, latent_rgb: Tensor | None) -> Callable[[Step], None]:
    """A callback for the core's samplers that tells the host of each step, with a look at the first image.

    Args:
        latent_rgb: [channels + 1, 3], what the latents look like; None where the checkpoint does not say.
    """
    from wuerstchen_core.previews import latent_preview

    update, shows = host().progress(steps, label), host().shows_previews()

    def report(step: Step) -> None:
        update(step.index + 1, latent_preview(step.denoised[:1], latent_rgb)[0] if shows else None)

    return report


def _is_tensor(value: Any) -> TypeGuard[Tensor]:
    from torch import Tensor

    return isinstance(value, Tensor)


def _samples_of(latent: Any) -> Tensor:
    samples = latent.get("samples") if isinstance(latent, Mapping) else None
    if not _is_tensor(samples):
        raise InputError(
            f'latent is {_shown(latent)}; expected a LATENT, {{"samples": tensor}}, such as Stage C Sampler makes.'
        )
    if samples.ndim != 4 or samples.numel() == 0 or not samples.is_floating_point():
        raise InputError(f"latent holds {_shown(samples)}; expected numbers of shape [batch, channels, height, width].")
    return samples.float()


def _finite(values: Tensor, name: str, advice: str) -> Tensor:
    if not bool(values.isfinite().all()):
        raise InputError(f"{name} holds values that are not numbers (NaN or infinity). {advice}")
    return values


def _shown(value: Any) -> str:
    if _is_tensor(value):
        return f"a tensor of shape {list(value.shape)} and {value.dtype}"
    if isinstance(value, Mapping):
        return f"a dictionary with {', '.join(map(repr, value)) or 'nothing in it'}"
    return "an empty list" if value == [] else f"a {type(value).__name__}"
