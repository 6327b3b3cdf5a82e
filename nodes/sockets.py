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
    check_stage(options, name, stage)
    for key, meaning in _UNHEEDED.items():
        if options.get(key) is not None:
            raise InputError(
                f"{name} carries {meaning} ({key!r}), which Würstchen's samplers do not follow. "
                "Bypass the node that set it."
            )
    return _finite(embedding.float(), name, "Encode the prompt again, or load the text encoder afresh.")


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
    samples = _samples_of(latent)
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
    return _finite(samples, "latent", "Sample Stage C again, in float32 or bfloat16 if it was float16.")


def stage_b_latents_of(latent: Any, name: str = "latent", node: str = "Stage A VQGAN Decode") -> Tensor:
    """Return Stage B's latents [batch, 4, height, width] of a LATENT.

    Args:
        latent: Value of the socket.
        name: Name of the node's input, for messages.
        node: Name of the node that it goes to, for messages.
    Raises:
        InputError: It is not a LATENT, or comes from another stage.
    """
    samples = _samples_of(latent)
    channels = samples.shape[1]
    if channels != STAGE_B_CHANNELS:
        what = (
            "as Stage C Sampler's image embeddings have: connect them to Stage B Decode first, and its LATENT here"
            if channels == STAGE_C_CHANNELS
            else "not a Würstchen latent: connect Stage B Decode's LATENT here"
        )
        raise InputError(f"{name} has {channels} channels, {what}. {node} expects {STAGE_B_CHANNELS}.")
    return _finite(samples, name, "Run Stage B Decode again, in float32 or bfloat16 if it was float16.")


def latent_of(samples: Tensor, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Wrap `samples` into a LATENT, with the other keys of `like`, the LATENT that they were made from."""
    return {**(like or {}), "samples": samples.to(host().intermediate_device()).float()}


def asked_size(width: int, height: int) -> dict[str, tuple[int, int]]:
    """Return the keys by which a LATENT remembers an image size in pixels; none for multiples of 128."""
    size = Size(width, height)
    return {} if size == size.rounded else {SIZE_KEY: (width, height)}


def crop_to_asked(images: Tensor, latent: Mapping[str, Any]) -> Tensor:
    """Crop images [batch, height, width, 3] to the size that their LATENT was asked for, keeping the top left.

    They are returned unchanged where that size is not known, or where another node has resized the latent.
    """
    if SIZE_KEY not in latent:
        return images
    size = Size(*latent[SIZE_KEY])
    if tuple(images.shape[1:3]) != (size.rounded.height, size.rounded.width):
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
    if not isinstance(indices, list) or len(indices) != count:
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
