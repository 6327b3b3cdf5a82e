"""Load networks from checkpoints in any layout, with checks that each file is of the right network."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..networks.blocks import Operations, compute_dtype_of
from ..networks.float8 import FLOAT8, eight_bit_keys, operations_for
from ..networks.image_encoder import ImageEncoder
from ..networks.processor import HAS_BFLOAT16, LARGE
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from ..text.building import text_encoder_of
from ..text.encoder import TextEncoder
from . import components
from .architectures import IMAGE_ENCODERS, STAGE_A, STAGE_B, STAGE_C, Architecture, Network
from .colours import check_colours, load_previewer
from .components import Component, describe
from .config import Config, State, check, config_from
from .layouts import read_json
from .reading import Checkpoint, read_checkpoint, read_tensors
from .sources import locate_stage, locate_text_encoder

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
            computes in bfloat16, where the device can. None for the stored one; on the CPU None means float32, or
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
    return _load((STAGE_C,), source, device, dtype, download, operations)


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
    """Load Stage A (the VQGAN). Arguments and errors as for `load_stage_c`, without float8_e4m3fn."""
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
    target, chosen = _device(device), _dtype(dtype)
    files = locate_text_encoder(source, component, download=download)
    state: dict[str, Tensor] = {}
    for path in files.tensors:
        state.update(read_tensors(path))
    config = read_json(files.config) if files.config else None
    encoder = text_encoder_of(state, config, files.tokenizer, str(files.weights))
    if chosen is None:
        chosen = torch.float32 if target.type == "cpu" else _computed(stored_dtype(state))
    encoder.to(target, chosen)
    encoder.for_stage = for_stage
    return encoder


def cpu_dtype(weights: int) -> torch.dtype:
    """Return the default dtype on this CPU of a network with that number of weights."""
    return torch.bfloat16 if weights >= LARGE and HAS_BFLOAT16 else torch.float32


def _load(
    architectures: Sequence[Architecture[Network, Config]],
    source: str | Path,
    device: Device,
    dtype: torch.dtype | None,
    download: bool,
    operations: Operations,
) -> Network:
    first = architectures[0]
    target, chosen = _device(device), _dtype(dtype, *first.stored)
    if operations is nn:
        operations = operations_for(chosen, target)
    checkpoint = read_checkpoint(locate_stage(source, first.component, download=download), first.component.part)
    architecture = next((each for each in architectures if _is_of(each.component, checkpoint)), first)
    component = architecture.component
    _check_stage(component, checkpoint)
    with torch.device("meta"):
        network = architecture.network(_config(architecture, checkpoint), operations)
    _check_keys(component, network, checkpoint)
    _set_preview(network, checkpoint)
    state = checkpoint.state
    if chosen is None:
        weights = sum(tensor.numel() for tensor in state.values())
        chosen = cpu_dtype(weights) if target.type == "cpu" else _computed(stored_dtype(state))
    eight_bits = eight_bit_keys(network) if chosen == FLOAT8 else set[str]()
    others = (compute_dtype_of(operations) or torch.bfloat16) if eight_bits else chosen
    for key in list(state):  # one by one, so that each stored tensor is freed once it is converted
        tensor = state.pop(key)
        kind = chosen if key in eight_bits else others
        state[key] = tensor.to(target, kind if tensor.is_floating_point() else tensor.dtype)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _is_of(component: Component, checkpoint: Checkpoint) -> bool:
    """Return whether the config.json names the network, or without one, whether a tensor shows it."""
    named = (checkpoint.config or {}).get("_class_name")
    return component.mark in checkpoint.state if named is None else named == component.class_name


def _check_stage(component: Component, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError if the tensors or the config.json are of another network."""
    files = checkpoint.files
    class_name = (checkpoint.config or {}).get("_class_name", component.class_name)
    if class_name != component.class_name:
        raise CheckpointError(
            f"{files.config} is of the class {class_name!r}; expected {component.class_name!r}, {component.label}. "
            "Choose that stage's folder or file."
        )
    if component.mark not in checkpoint.state:
        found = describe(checkpoint.state) or f"no stage of Würstchen (its first keys are {list(checkpoint.state)[:3]})"
        raise CheckpointError(
            f"{files.weights} looks like {found}; expected {component.label}, which has {component.mark!r}. "
            "Choose another file, or the loader that fits this one."
        )


def _config(architecture: Architecture[Any, Config], checkpoint: Checkpoint) -> Config:
    files = checkpoint.files
    if checkpoint.config is not None:
        return config_from(checkpoint.config, architecture.config, str(files.config))
    try:
        config = architecture.infer(checkpoint.state)
    except (KeyError, ValueError, IndexError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{files.weights}: the network's config cannot be inferred from its tensors: {reason}. Expected all "
            f"tensors of {architecture.component.title}; put its config.json beside it in a folder, or download it "
            "again."
        ) from error
    check(config, str(files.weights))
    return config


def _check_keys(component: Component, network: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError at the first key that is missing, unexpected, or of the wrong shape or dtype."""
    weights, state = checkpoint.files.weights, checkpoint.state
    expected: dict[str, Tensor] = network.state_dict()
    for key, tensor in expected.items():
        if key.endswith(".num_batches_tracked"):  # used in training only; some files lack it or store it as a float
            state[key] = state.get(key, torch.zeros(tensor.shape)).to(tensor.dtype)
    stage = component.title
    if checkpoint.files.config:
        stage += f" as {checkpoint.files.config} describes it"
    advice = "Choose a checkpoint of that network, or download it again."
    for key in sorted(expected.keys() | state.keys()):
        if key not in state:
            absent = len(expected.keys() - state.keys())
            raise CheckpointError(
                f"{weights}: {key!r} is one of {absent} missing; expected it with shape "
                f"{list(expected[key].shape)} for {stage}. {advice}"
            )
        if key not in expected:
            surplus = len(state.keys() - expected.keys())
            raise CheckpointError(
                f"{weights}: {key!r} with shape {list(state[key].shape)} is one of {surplus} unexpected. "
                f"{stage} has no such tensor. {advice}"
            )
        if state[key].shape != expected[key].shape:
            raise CheckpointError(
                f"{weights}: {key!r} has shape {list(state[key].shape)}; expected "
                f"{list(expected[key].shape)} for {stage}. {advice}"
            )
        if state[key].is_floating_point() != expected[key].is_floating_point():
            raise CheckpointError(
                f"{weights}: {key!r} is stored as {state[key].dtype}; expected {expected[key].dtype} or "
                "another floating-point dtype. Quantized checkpoints are not supported; choose one that is not."
            )


def _set_preview(network: nn.Module, checkpoint: Checkpoint) -> None:
    if isinstance(network, StageC) and checkpoint.files.previewer:
        network.previewer = load_previewer(checkpoint.files.previewer, network.config.c_in)
    if checkpoint.latent_rgb is not None and isinstance(network, StageB | StageC):
        check_colours(checkpoint.latent_rgb, network.config.c_in, checkpoint.files)
        network.latent_rgb = checkpoint.latent_rgb


def stored_dtype(state: State) -> torch.dtype:
    """Return the dtype of most of the weights."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in state.values():
        sizes[tensor.dtype] += tensor.numel()
    return sizes.most_common(1)[0][0]


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
