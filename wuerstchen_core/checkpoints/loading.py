"""Load networks from checkpoints in any layout, on a device and in a dtype."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.eight_bits import operations_for
from ..networks.float8 import FLOAT8, eight_bit_keys
from ..networks.image_encoder import ImageEncoder
from ..networks.int8 import INT8, floating_state, quantized
from ..networks.operations import Operations, compute_dtype_of
from ..networks.processor import HAS_BFLOAT16, LARGE
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from ..text.building import text_encoder_of, text_tensors
from ..text.encoder import TextEncoder
from . import components, int8_files
from .architectures import IMAGE_ENCODERS, STAGE_A, STAGE_B, STAGE_C, Architecture, Network
from .config import Config
from .layouts import read_json
from .opening import open_checkpoint, stored_dtype
from .reading import StoredTensors, read_shards
from .recipes import Recipe, Stored
from .sources import locate_text_encoder

Device = str | torch.device

_COMPUTED = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that networks run in."""


def load_stage_c(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    operations: Operations = nn,
) -> StageC:
    """Load Stage C (the prior) from any layout, ready for sampling.

    Args:
        source: A preset's name, a weights file, a folder, or a hub repository ("owner/name").
        device: Device of the weights and the computation.
        dtype: Dtype of the weights and the computation. torch.float8_e4m3fn keeps the weights of layers in it and
            computes in bfloat16, where the device can. torch.int8 keeps those of linear layers in it and multiplies in
            it, see `networks.int8`. None for the stored one; on the CPU None means float32, or
            bfloat16 for networks as large as the published ones if the CPU multiplies in it.
        download: Download files that are not on this machine. Without it nothing is ever downloaded.
        operations: Namespace that layers come from, for hosts that manage weights themselves.
    Returns:
        StageC: Network in eval mode, without gradients.
    Raises:
        WeightsMissingError: The checkpoint is not on this machine, or could not be downloaded.
        CheckpointError: It is damaged, unsafe, or of another network.
        InputError: There is no such device, or networks do not run in `dtype`.
    """
    return make_stage_c(Stored(source, download=download), device=device, dtype=dtype, operations=operations)


def load_stage_b(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    operations: Operations = nn,
) -> StageB:
    """Load Stage B (the decoder). Arguments and errors as for `load_stage_c`."""
    return _load((STAGE_B,), source, device, dtype, download, operations)


def load_stage_a(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    operations: Operations = nn,
) -> StageA:
    """Load Stage A (the VQGAN). Arguments and errors as for `load_stage_c`, without those of eight bits."""
    return _load((STAGE_A,), source, device, dtype, download, operations)


def load_image_encoder(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
) -> ImageEncoder:
    """Load an image encoder, whose output is what Stage B takes and Stage C learns to sample.

    Args:
        source: A preset's name, a weights file, a folder, a hub repository ("owner/name"), or the authors' file of
            Stage B (model_v2_stage_b.pt), which holds one.
        device: Device of the weights and the computation.
        dtype: Dtype of the weights and the computation; None for float32 on the CPU, the stored one elsewhere.
        download: Download files that are not on this machine.
    Returns:
        ImageEncoder: In eval mode, without gradients.
    Raises:
        WeightsMissingError: It is not on this machine, or could not be downloaded.
        CheckpointError: It is damaged, unsafe, or another network.
        InputError: There is no such device, or networks do not run in `dtype`.
    """
    return _load(IMAGE_ENCODERS, source, device, dtype, download, nn)


def load_text_encoder(
    source: str | Path,
    *,
    for_stage: Literal["C", "B"] = "C",
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
) -> TextEncoder:
    """Load the text encoder of a stage, with its tokenizer.

    Args:
        source: A preset's name, a weights file, the text encoder's folder, a pipeline's folder, or a hub repository
            ("owner/name"). Without a tokenizer beside it, CLIP's own is used if it fits.
        for_stage: Stage that the prompts are for, and whose text encoder a preset's name means.
        device: Device of the weights and the computation.
        dtype: Dtype of the weights and the computation; None for float32 on the CPU, the stored one elsewhere.
            torch.int8 as for `load_stage_c`.
        download: Download files that are not on this machine.
    Returns:
        TextEncoder: In eval mode, without gradients.
    Raises:
        WeightsMissingError: The text encoder or its tokenizer is not on this machine, or could not be downloaded.
        CheckpointError: A file is damaged, or of another network.
        InputError: There is no such stage or device, or networks do not run in `dtype`.
    """
    component = components.TEXT_ENCODERS.get(for_stage)
    if component is None:
        raise InputError(f"for_stage is {for_stage!r}; expected 'C' or 'B'.")
    target, chosen = _device(device), _dtype(dtype, INT8)
    files = locate_text_encoder(source, component, download=download)

    def read() -> dict[str, Tensor]:
        return text_tensors(read_shards(files.tensors))

    state = read()
    config = read_json(files.config) if files.config else None
    operations = operations_for(chosen, target)
    encoder = text_encoder_of(state, config, files.tokenizer, str(files.weights), operations)
    if chosen is None:
        chosen = torch.float32 if target.type == "cpu" else _computed(stored_dtype(state))
    tensors = StoredTensors(files.tensors, state, read)
    del state  # so that `tensors` alone keeps the files in memory
    _fill_stored(encoder.model, tensors, (component.part, files.tensors), target, chosen, operations)
    encoder.for_stage = for_stage
    return encoder.eval().requires_grad_(False)


def cpu_dtype(weights: int) -> torch.dtype:
    """Return the default dtype on this CPU of a network with that number of weights."""
    return torch.bfloat16 if weights >= LARGE and HAS_BFLOAT16 else torch.float32


def make_stage_c(
    recipe: Recipe,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
) -> StageC:
    """Make the network of a recipe, weight by weight.

    Args:
        recipe: Where its weights come from.
        device: As for `load_stage_c`.
        dtype: As for `load_stage_c`.
        operations: As for `load_stage_c`.
    Returns:
        StageC: Network in eval mode, without gradients.
    Raises:
        CheckpointError: A file of the recipe has changed, or is gone.
        InputError: There is no such device, or networks do not run in `dtype`.
    """
    target, chosen = _device(device), _dtype(dtype, *STAGE_C.stored)
    if operations is nn:
        operations = operations_for(chosen, target)
    with torch.device("meta"):
        network = StageC(recipe.config, operations)
    try:
        kind = dtype_for(recipe, target, chosen)
        if isinstance(recipe, Stored):
            where = STAGE_C.component.part, recipe.files.tensors
            _fill_stored(network, recipe.tensors, where, target, kind, operations)
        else:
            _fill(network, recipe.tensor, target, kind, operations)
    finally:
        recipe.release()
    network.latent_rgb, network.previewer = recipe.latent_rgb, recipe.previewer
    return network


def dtype_for(recipe: Recipe, device: torch.device, dtype: torch.dtype | None = None) -> torch.dtype:
    """Return the dtype that the network of a recipe is made in on a device; `dtype` where it is given."""
    if dtype is not None:
        return dtype
    return cpu_dtype(recipe.weights) if device.type == "cpu" else _computed(recipe.dtype)


def _load(
    architectures: Sequence[Architecture[Network, Config]],
    source: str | Path,
    device: Device,
    dtype: torch.dtype | None,
    download: bool,
    operations: Operations,
) -> Network:
    target, chosen = _device(device), _dtype(dtype, *architectures[0].stored)
    if operations is nn:
        operations = operations_for(chosen, target)
    opened = open_checkpoint(architectures, source, download=download)
    network, state = opened.network, opened.checkpoint.state
    if operations is not nn and isinstance(network, StageA | StageB):
        with torch.device("meta"):
            network = type(network)(cast(Any, network.config), operations)
    if isinstance(network, StageB):
        network.latent_rgb = opened.latent_rgb
    if chosen is None:
        weights = sum(tensor.numel() for tensor in state.values())
        chosen = cpu_dtype(weights) if target.type == "cpu" else _computed(stored_dtype(state))
    where, tensors = (opened.part, opened.checkpoint.files.tensors), opened.tensors()
    del opened, state  # so that `tensors` alone keeps the files in memory
    _fill_stored(network, tensors, where, target, chosen, operations)
    return cast(Network, network)


def _fill_stored(
    network: nn.Module,
    tensors: StoredTensors,
    where: tuple[str, Sequence[Path]],
    device: torch.device,
    dtype: torch.dtype,
    operations: Operations,
) -> None:
    """Fill a network from files, or in eight bits from what an earlier start has kept of them.

    Args:
        network: Network on the meta device.
        tensors: Content of the files.
        where: Part of the model, and the files.
        device: As for `_fill`, like the others.
    """
    try:
        if dtype != INT8 or sum(weight.numel() for weight in network.parameters()) < LARGE:
            _fill(network, tensors.tensor, device, dtype, operations)
            return
        kept = int8_files.file_for(*where, compute_dtype_of(operations) or torch.bfloat16)
        state = int8_files.read(kept, network.state_dict())
        if state is None:
            _fill(network, tensors.tensor, torch.device("cpu"), dtype, operations)
            int8_files.write(kept, network.state_dict())
            state = int8_files.read(kept, network.state_dict()) or network.state_dict()  # mapped, if it was written
        _assign(network, {key: tensor.to(device) for key, tensor in state.items()})
    finally:
        tensors.release()


def _fill(
    network: nn.Module,
    tensor_of: Callable[[str], Tensor],
    device: torch.device,
    dtype: torch.dtype,
    operations: Operations,
) -> None:
    """Give a network on the meta device its weights one by one, in a dtype, and make it ready for use."""
    eight_bits = eight_bit_keys(network) if dtype == FLOAT8 else set[str]()
    others = (compute_dtype_of(operations) or torch.bfloat16) if dtype in (FLOAT8, INT8) else dtype
    state: dict[str, Tensor] = {}
    for key, value in floating_state(network).items():
        tensor = tensor_of(key)
        if not isinstance(value, Tensor):  # a layer in eight bits
            whole, factor = quantized(tensor)
            state[key], state[f"{key.removesuffix('weight')}factor"] = whole.to(device), factor.to(device)
        else:
            kind = dtype if key in eight_bits else others
            # A copy beside eight bits, since a tensor that is used as it is keeps its whole file in memory.
            state[key] = tensor.to(device, kind if tensor.is_floating_point() else tensor.dtype, copy=dtype == INT8)
    _assign(network, state)


def _assign(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    network.load_state_dict(state, strict=True, assign=True)
    network.eval().requires_grad_(False)


def _computed(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that weights stored in another run in: bfloat16 for eight bits, which it holds exactly."""
    if dtype in _COMPUTED:
        return dtype
    return torch.bfloat16 if dtype.itemsize == 1 else torch.float32


def _device(device: Device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch asserts if it was built without CUDA
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device is {str(device)!r}, which cannot be used: {reason} Expected 'cpu' or another."
        ) from error


def _dtype(dtype: torch.dtype | None, *more: torch.dtype) -> torch.dtype | None:
    allowed = (*_COMPUTED, *more)
    if dtype is not None and dtype not in allowed:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(str(each) for each in allowed)}, or None.")
    return dtype
