"""Values of the sockets, checked when a node receives them and wrapped when it returns them.

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
from .shown import shown

if TYPE_CHECKING:
    from torch import Tensor

    from wuerstchen_core.networks.stage_b import StageB
    from wuerstchen_core.networks.stage_c import StageC
    from wuerstchen_core.sampling import Step

SIZE_KEY = "wuerstchen_size"
"""Key of a LATENT: (width, height) in pixels that was asked for, where it was rounded up. Stock nodes pass it on."""
STAGE_KEY = "wuerstchen_stage"
"""Key of a CONDITIONING: "C" or "B", the stage that its text encoder was loaded for. Stock nodes pass it on."""

CHUNK_KEY = "wuerstchen_chunk"
"""Key of a CONDITIONING: tokens of a chunk, where a prompt may be of several. Stock nodes pass it on."""

LARGEST_B = MAX_SIZE // 4
"""Most positions of Stage B's latent on a side."""
_UNHEEDED = {
    "area": "an area",
    "mask": "a mask",
    "control": "a ControlNet",
    "gligen": "a GLIGEN layout",
    "start_percent": "a range of timesteps",
    "hooks": "hooks",
}
"""Keys by which stock nodes limit a CONDITIONING to an area or a time. These samplers do not support them."""


def conditioning_of(embedding: Tensor, stage: str | None = None, chunk: int | None = None) -> list[list[Any]]:
    """Wrap text embeddings [batch, tokens, dim] into a CONDITIONING.

    `pooled_output` is the mean over the tokens, [batch, dim]. Würstchen does not read it; stock nodes that
    average or zero a pooled vector expect one.

    Args:
        embedding: Text embeddings.
        stage: Stage that they were encoded for, "C" or "B"; None if it is not known.
        chunk: Tokens of a chunk, of which a prompt may have several; None for a prompt of one fixed length.
    """
    embedding = embedding.float().cpu()
    mark: dict[str, Any] = {} if stage is None else {STAGE_KEY: stage}
    if chunk is not None:
        mark[CHUNK_KEY] = chunk
    return [[embedding, {"pooled_output": embedding.mean(dim=1), **mark}]]


def check_stage(options: Mapping[str, Any], name: str, stage: str) -> None:
    """Check that a CONDITIONING was encoded for a stage, as far as its dictionary tells.

    Raises:
        InputError: It was encoded for the other stage.
    """
    found = options.get(STAGE_KEY)
    if found is not None and found != stage:
        raise InputError(
            f"{name} is a prompt for Stage {found}; Stage {stage} expects its own. Encode the prompt with a Load Text "
            f"Encoder whose for_stage is {stage}."
        )


def embedding_of(conditioning: Any, name: str, stage: str) -> Tensor:
    """Return the text embeddings [batch, tokens, dim] of a CONDITIONING.

    Args:
        conditioning: Value of the socket.
        name: Name of the node's input, for messages.
        stage: Stage that they are for, "C" or "B".
    Raises:
        InputError: It is not a CONDITIONING, or holds several entries, NaNs, or a key that is not supported, or was
            encoded for the other stage.
    """
    if not isinstance(conditioning, list) or not conditioning:
        raise InputError(f"{name} is {shown(conditioning)}; expected a CONDITIONING, such as Text Encode makes.")
    if len(conditioning) > 1:
        raise InputError(
            f"{name} holds {len(conditioning)} prompts (as Conditioning Combine makes); expected one. "
            "Join them with Conditioning Concat or Conditioning Average instead."
        )
    entry = conditioning[0]
    if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[1], Mapping):
        raise InputError(f"{name} holds {shown(entry)}; expected a pair of a tensor and a dictionary.")
    embedding, options = entry
    if not is_numbers(embedding) or embedding.ndim != 3 or embedding.numel() == 0:
        raise InputError(f"{name} holds {shown(embedding)}; expected numbers of shape [batch, tokens, dim].")
    check_stage(options, name, stage)
    for key, meaning in _UNHEEDED.items():
        if options.get(key) is not None:
            raise InputError(
                f"{name} carries {meaning} ({key!r}), which Würstchen's samplers do not follow. "
                "Bypass the node that set it."
            )
    return finite(embedding.float(), name, "Encode the prompt again, or load the text encoder afresh.")


def prompts_of(positive: Any, negative: Any, stage: str) -> tuple[Tensor, Tensor | None]:
    """Return the text embeddings of two CONDITIONINGs.

    Two prompts in chunks get as many tokens, so that one call samples both.

    Args:
        positive: Value of the socket of that name.
        negative: Value of the socket of that name; None for none.
        stage: Stage that they are for, "C" or "B".
    Raises:
        InputError: As for `embedding_of`.
    """
    text = embedding_of(positive, "positive", stage)
    if negative is None:
        return text, None
    without = embedding_of(negative, "negative", stage)
    if not all(CHUNK_KEY in each[0][1] for each in (positive, negative)):
        return text, without
    from wuerstchen_core.text.encoder import equally_long

    return equally_long(text, without)


def image_embeddings_of(latent: Any, node: str = "Stage B Decode") -> Tensor:
    """Return Stage C's image embeddings [batch, 16, height, width] of a LATENT.

    Args:
        latent: Value of the socket.
        node: Name of the node that it goes to, for messages.
    Raises:
        InputError: It is not a LATENT, comes from another stage, or has a size that Stage B does not support.
    """
    samples = _samples_of(latent, "latent")
    channels, height, width = samples.shape[1:]
    if channels != STAGE_C_CHANNELS:
        what = (
            "Stage B Decode's result (or another model's latent): Stage B's goes to Stage A VQGAN Decode"
            if channels == STAGE_B_CHANNELS
            else "not a Würstchen latent"
        )
        raise InputError(
            f"latent has {channels} channels, {what}. {node} expects the {STAGE_C_CHANNELS} channels of "
            "Stage C Sampler or Image to Stage C; connect that node's LATENT here."
        )
    most = Size(MAX_SIZE, MAX_SIZE).stage_c[0]
    if height % 3 or width % 3 or max(height, width) > most:
        raise InputError(
            f"latent is {width} x {height} positions; expected Stage C's: multiples of 3 (128 pixels "
            f"each), at most {most}. Crop or resize it to such a size, or connect Stage C Sampler's LATENT as it is."
        )
    return finite(samples, "latent", "Sample Stage C again, in float32 or bfloat16 if it was float16.")


def stage_b_latents_of(latent: Any, name: str = "latent", node: str = "Stage A VQGAN Decode") -> Tensor:
    """Return Stage B's latents [batch, 4, height, width] of a LATENT.

    Args:
        latent: Value of the socket.
        name: Name of the node's input, for messages.
        node: Name of the node that it goes to, for messages.
    Raises:
        InputError: It is not a LATENT, or comes from another stage.
    """
    samples = _samples_of(latent, name)
    channels = samples.shape[1]
    if channels != STAGE_B_CHANNELS:
        what = (
            "as Stage C Sampler's image embeddings have: connect them to Stage B Decode first, and its LATENT here"
            if channels == STAGE_C_CHANNELS
            else "not a Würstchen latent: connect Stage B Decode's LATENT here"
        )
        raise InputError(f"{name} has {channels} channels, {what}. {node} expects {STAGE_B_CHANNELS}.")
    height, width = samples.shape[-2:]
    if max(height, width) > LARGEST_B:
        raise InputError(f"{name} is {width} x {height} positions; expected at most {LARGEST_B}. Crop or resize it.")
    return finite(samples, name, "Run Stage B Decode again, in float32 or bfloat16 if it was float16.")


def latent_of(samples: Tensor, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Wrap `samples` into a LATENT, with the other keys of `like`, the LATENT that they were made from."""
    return {**(like or {}), "samples": samples.to(host().intermediate_device()).float()}


def asked_size(width: int, height: int) -> dict[str, tuple[int, int]]:
    """Return the keys by which a LATENT remembers an image size in pixels; none for multiples of 128."""
    size = Size(width, height)
    return {} if size == size.rounded else {SIZE_KEY: (width, height)}


def asked_of(latent: Mapping[str, Any], name: str = "latent") -> Size | None:
    """Return the image size that a LATENT was asked for; None where that is not known.

    Args:
        latent: Value of the socket.
        name: Name of the node's input, for messages.
    Raises:
        InputError: It carries something else under that key.
    """
    asked = latent.get(SIZE_KEY)
    if asked is None:
        return None
    if not isinstance(asked, (tuple, list)) or len(asked) != 2:
        raise InputError(f"{name} carries {shown(asked)} as {SIZE_KEY!r}; expected the width and height in pixels.")
    try:
        return Size(*asked)
    except InputError as error:
        raise InputError(f"{name} carries a wrong size as {SIZE_KEY!r}: {error}") from None


def crop_to_asked(images: Tensor, latent: Mapping[str, Any]) -> Tensor:
    """Crop images [batch, height, width, 3] to the size that their LATENT was asked for, keeping the top left.

    They are returned unchanged where that size is not known, or where another node has resized the latent.
    """
    size = asked_of(latent)
    if size is None or tuple(images.shape[1:3]) != (size.rounded.height, size.rounded.width):
        return images
    return images[:, : size.height, : size.width].contiguous()


def image_of(pixels: Tensor) -> Tensor:
    """Return pixels [batch, 3, height, width] in 0..1 as an IMAGE."""
    return pixels.movedim(1, -1).to(host().intermediate_device()).float().contiguous()


def seeds_of(seed: int, latent: Mapping[str, Any]) -> list[int]:
    """Return one seed for each image of a LATENT: seed + i for image i.

    i is the image's index in the batch that it was sampled in, which stock nodes keep in `batch_index`: an image taken
    out of a batch stays the same image.
    """
    count = len(latent["samples"])
    indices = latent.get("batch_index")
    if not isinstance(indices, list) or len(indices) != count or any(type(index) is not int for index in indices):
        indices = range(count)
    return [seed + index for index in indices]


def report_steps(steps: int, label: str, network: StageB | StageC) -> Callable[[Step], None]:
    """Return a callback for the core's samplers that reports each step to the host, with a preview of the first image.

    Args:
        steps: Number of steps in all.
        label: Name of the work, such as "Stage C".
        network: Network that samples.
    """
    from wuerstchen_core.previews import preview

    update, shows = host().progress(steps, label), host().shows_previews()

    def report(step: Step) -> None:
        update(step.index + 1, preview(network, step.denoised[:1])[0] if shows else None)

    return report


def has_values(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value is a tensor of real numbers that are all there: not sparse, not on the device meta."""
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return False
    return not (value.is_meta or value.is_nested or value.is_complex())


def is_numbers(value: Any) -> TypeGuard[Tensor]:
    """Return whether a value is such a tensor of fractions."""
    return has_values(value) and value.is_floating_point()


def _samples_of(latent: Any, name: str) -> Tensor:
    if not isinstance(latent, Mapping) or "samples" not in latent:
        raise InputError(
            f'{name} is {shown(latent)}; expected a LATENT, {{"samples": tensor}}, such as Stage C Sampler makes.'
        )
    samples = latent["samples"]
    if not is_numbers(samples) or samples.ndim != 4 or samples.numel() == 0:
        raise InputError(f"{name} holds {shown(samples)}; expected numbers of shape [batch, channels, height, width].")
    asked_of(latent, name)
    return samples.float()


def finite(values: Tensor, name: str, advice: str) -> Tensor:
    """Return the values of an input. Raises: InputError, where one of them is not a number."""
    if not bool(values.isfinite().all()):
        raise InputError(f"{name} holds values that are not numbers (NaN or infinity). {advice}")
    return values
